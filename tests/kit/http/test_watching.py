"""Is it alive, is it ready, what does it count."""

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.conftest import run_sql
from tests.known_users import known_client
from tests.postgres_places import eventually
from tests.redis_server import RedisServer

from kinfolk.app import MODULES
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Database
from kinfolk.kit.http import watching
from kinfolk.kit.http.application import application
from kinfolk.kit.http.watching import NO_MESSAGES, NO_SHARING, NO_TOKENS, READY_SECONDS
from kinfolk.kit.rabbit import Amqp
from kinfolk.kit.revision import head
from kinfolk.kit.shelf import Shelf


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of a busy machine may not answer within a second."""
    monkeypatch.setattr(watching, "READY_SECONDS", 60)


def client_of(db: Database, cache: Cache | None = None, amqp_url: str | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(MODULES, db, cache, amqp=Amqp(amqp_url)))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://kinfolk")


def not_ready(database: str) -> dict[str, str]:
    return {"status": "not ready", "database": database, "migrations": "unknown"}


async def test_it_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    alive = await client.get("/health")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    ready = await client.get("/ready")
    assert ready.json() == {"status": "ready", "database": "answers", "migrations": "at head"}
    assert ready.status_code == 200


async def test_redis_is_told_of_where_there_is_one(db: Database, redis_server: RedisServer) -> None:
    """Without it requests are served, too."""
    away = "redis://127.0.0.1:1/0"
    for url, said in ((redis_server.url, "answers"), (away, NO_SHARING)):
        async with Cache(shelf=Shelf(url, "secret")) as cache, client_of(db, cache) as client:
            answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["status"], answer.json()["redis"]) == (200, "ready", said)


async def test_without_the_redis_that_has_the_tokens_it_is_not_ready(db: Database) -> None:
    async with (
        Cache(shelf=Shelf("redis://127.0.0.1:1/0", "secret")) as cache,
        await known_client(db, cache=cache) as client,
    ):
        answer = await client.get("/ready", headers={"authorization": ""})
    told = answer.json()
    assert (answer.status_code, told["status"], told["redis"]) == (503, "not ready", NO_TOKENS)


async def test_rabbitmq_is_told_of_where_there_is_one(db: Database, rabbit_url: str) -> None:
    async with client_of(db, amqp_url=f"{rabbit_url}/v0") as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["status"], answer.json()["rabbitmq"]) == (200, "ready", "answers")


@pytest.mark.parametrize("how", ["away", "silent", "rude", "another program"])
async def test_a_rabbitmq_that_does_not_let_us_in_is_told(
    db: Database, how: str, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if how in {"silent", "another program"}:  # whose first words promise more than come
        monkeypatch.setattr(watching, "READY_SECONDS", READY_SECONDS)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if how == "silent":
            await reader.read()
        elif how == "another program":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(behave, "127.0.0.1", 0) as server:
        port = 1 if how == "away" else server.sockets[0].getsockname()[1]
        async with client_of(db, amqp_url=f"amqp://guest:guest@127.0.0.1:{port}/") as client:
            answer = await client.get("/ready")
    told = answer.json()
    assert (answer.status_code, told["status"], told["rabbitmq"]) == (503, "not ready", NO_MESSAGES)
    assert lines[0]["rabbitmq"]


async def test_a_database_that_is_not_there_is_told(lines: list[Any]) -> None:
    async with Database("postgresql://nobody@127.0.0.1:1/nothing") as away, client_of(away) as client:
        answer = await client.get("/ready")
        assert (await client.get("/health")).status_code == 200
    assert (answer.status_code, answer.json()) == (503, not_ready("cannot be reached"))
    assert lines[0]["reason"] == "DatabaseAway"


async def test_a_server_that_hangs_up_is_told() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
        port = rude.sockets[0].getsockname()[1]
        url = f"postgresql://nobody@127.0.0.1:{port}/nothing?sslmode=disable"
        async with Database(url) as db, client_of(db) as client:
            answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, not_ready("cannot be reached"))


async def test_a_database_that_refuses_us_is_told(pg_url: str, lines: list[Any]) -> None:
    parts = urlsplit(pg_url)
    wrong = parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl()
    async with Database(wrong) as db, client_of(db) as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, not_ready("does not let us in"))
    assert "password" in lines[0]["database"]


async def test_tables_that_may_not_be_read_are_told(make_database: Any, lines: list[Any]) -> None:
    url = await asyncio.to_thread(make_database, "closed")
    await asyncio.to_thread(run_sql, url, "REVOKE SELECT ON alembic_version FROM CURRENT_USER")
    async with Database(url) as db, client_of(db) as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, not_ready("could not be asked: the log says why"))
    assert lines[0]["reason"] == "InsufficientPrivilegeError"


async def test_a_database_that_says_nothing_is_told_within_about_a_second(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READY_SECONDS", READY_SECONDS)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with Database(f"postgresql://nobody@127.0.0.1:{port}/nothing?sslmode=disable") as db, client_of(db) as client:
        begun = time.monotonic()
        answer = await client.get("/ready")
        assert 0.9 < time.monotonic() - begun < 9, "less than connecting may take"
    silent.close()
    await silent.wait_closed()
    assert (answer.status_code, answer.json()) == (503, not_ready("did not answer within a second"))
    assert lines[0]["reason"] == "TimeoutError"


async def test_tables_that_are_behind_are_told(make_database: Any) -> None:
    url = await asyncio.to_thread(make_database, "behind", is_empty=True)
    async with Database(url) as db, client_of(db) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["database"]) == (503, "answers")
        assert answer.json()["migrations"].startswith("not at head")


async def test_an_older_revision_is_not_ready_and_a_newer_one_is(make_database: Any) -> None:
    """Else a migration would end all processes of the version before at once."""
    url = await asyncio.to_thread(make_database, "ahead")
    async with Database(url) as db, client_of(db) as client:
        for revision, status, said in [("0001", 503, "not at head"), ("9999", 200, "ahead"), (head(), 200, "at head")]:
            await asyncio.to_thread(run_sql, url, f"UPDATE alembic_version SET version_num = '{revision}'")
            answer = await client.get("/ready")
            assert (answer.status_code, answer.json()["migrations"].startswith(said)) == (status, True)


def counted(text: str, route: str) -> float:
    start = f'kinfolk_http_requests_total{{method="GET",route="{route}",status="200"}} '
    return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


def test_metrics_are_those_of_all_workers(service_url: str) -> None:
    """Whichever of two processes is asked, it knows what both have answered."""
    for _ in range(40):  # each on a connection of its own, so that both workers get some; no other test asks for it
        assert httpx.get(f"{service_url}/problems/not-found").status_code == 200

    def told() -> float:
        return counted(httpx.get(f"{service_url}/metrics").text, "/problems/{kind}")

    assert eventually(lambda: told() == 40)
    assert {told() for _ in range(8)} == {40}
    answer = httpx.get(f"{service_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'kinfolk_http_request_seconds_bucket{le="0.001",route="/problems/{kind}"}' in answer.text
