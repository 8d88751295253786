"""Redis is killed, paused, spoilt and brought back under a service that shares answers: slower, never wrong."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import eventually
from tests.redis_server import RedisServer
from tests.running import Service

from kinfolk.kit.shelf import PATIENCE_SECONDS

pytestmark = pytest.mark.uncounted

READINGS = 40


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


@pytest.fixture
def service(make_database: Any, redis: RedisServer) -> Iterator[Service]:
    """Nothing is kept in memory, so that each answer is asked of Redis."""
    url = make_database("sharing")
    with Service("api", "--pg-url", url, "--redis-url", redis.url, "--cache-bytes", "0") as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
        yield client


def add(client: httpx.Client) -> int:
    answer = client.post("/imports", json={"citizens": [a_citizen(number) for number in range(50)]})
    import_id: int = answer.json()["data"]["import_id"]
    return import_id


def read(client: httpx.Client, import_id: int) -> None:
    """Everything is answered, and rightly."""
    for coding in ("identity", "zstd"):
        answer = client.get(f"/imports/{import_id}/citizens", headers={"accept-encoding": coding})
        assert answer.status_code == 200
        assert [citizen["citizen_id"] for citizen in answer.json()["data"]] == list(range(50))


def ready(client: httpx.Client) -> str:
    assert eventually(lambda: client.get("/ready").status_code == 200), "the database answered within a second"
    answer = client.get("/ready")
    words: str = answer.json()["redis"]
    return words


def test_redis_is_killed_and_comes_back(service: Service, client: httpx.Client, redis: RedisServer) -> None:
    import_id = add(client)
    read(client, import_id)
    assert eventually(lambda: len(redis.names()) == 2)
    read(client, import_id)
    assert eventually(lambda: len(service.lines("cached=redis")) >= 2)
    assert ready(client) == "answers"
    redis.kill()
    for _ in range(READINGS):
        read(client, import_id)
    assert ready(client) == "does not answer: each process has its own answers"
    redis.start()
    assert eventually(lambda: read(client, import_id) or bool(service.lines("event=redis_back")))  # type: ignore[func-returns-value]
    assert ready(client) == "answers"
    assert eventually(lambda: len(redis.names()) == 2)
    assert len(service.lines("event=redis_away")) == 1
    assert service.lines("status=5") == []


def test_redis_is_paused(service: Service, client: httpx.Client, redis: RedisServer) -> None:
    import_id = add(client)
    read(client, import_id)
    redis.pause()
    try:
        for _ in range(READINGS):
            read(client, import_id)
        assert ready(client).startswith("does not answer")
    finally:
        redis.go_on()
    assert eventually(lambda: len(service.lines("cached=nowhere")) >= READINGS)
    waits = [line for line in service.lines("event=request") if milliseconds(line) > PATIENCE_SECONDS * 900]
    assert 1 <= len(waits) < READINGS, "it is left alone once it was waited for"
    assert len(service.lines("event=redis_away")) == 1


def milliseconds(line: str) -> float:
    return float(line.partition(" ms=")[2].split()[0])


def test_redis_is_spoilt(service: Service, client: httpx.Client, redis: RedisServer) -> None:
    import_id, other_id = add(client), add(client)
    client.patch(f"/imports/{other_id}/citizens/1", json={"name": "Another"})
    read(client, import_id)
    read(client, other_id)
    assert eventually(lambda: len(redis.names()) == 4)
    with redis.client as changing:
        names = redis.names()
        values = [changing.get(name) for name in names]
        for name, value in zip(names, reversed(values), strict=True):
            changing.set(name, value)  # type: ignore[arg-type]
    read(client, import_id)
    answer = client.get(f"/imports/{import_id}/citizens")
    assert "Another" not in answer.text
    assert "Another" in client.get(f"/imports/{other_id}/citizens").text
    assert service.lines("event=redis_away") == []


async def test_it_may_be_away_from_the_start(make_database: Any) -> None:
    url = await asyncio.to_thread(make_database, "never")
    with (
        Service("api", "--pg-url", url, "--redis-url", "redis://127.0.0.1:1/0", "--workers", "2") as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client,
    ):
        import_id = add(client)
        read(client, import_id)
        assert ready(client).startswith("does not answer")
        assert service.end() == 0
