"""Kept answers are never stale: whoever asks after a change was answered gets it, from whichever process."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, add, listed, refusal
from tests.redis_server import RedisServer
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application

CHANGES = 120
READERS = 3
REMEMBERED = 10
CODINGS = ["identity", "zstd", "gzip"]


def born(version: int) -> str:
    """The month tells the version."""
    return f"01.{version % 12 + 1:02}.1990"


def is_of(version: int, answer: httpx.Response) -> bool:
    """Whether the body is that of the version, as the changes below have made it."""
    data = answer.json()["data"]
    if "birthdays" in answer.url.path:
        return [month for month, buyers in data.items() if buyers] == [str(version % 12 + 1)]
    return (data[0]["apartment"], data[0]["birth_date"]) == (version, born(version))


async def try_race(changer: httpx.AsyncClient, readers: list[httpx.AsyncClient], changes: int = CHANGES) -> None:
    """Change one citizen over and over, read meanwhile: no answer is older than a change that was answered before."""
    chance = random.Random(1)
    import_id = await add(changer, [a_citizen(1, apartment=1, birth_date=born(1), relatives=[1])])
    answered = 1
    read_versions = set()

    async def change() -> None:
        nonlocal answered
        for version in range(2, changes):
            fields = {"apartment": version, "birth_date": born(version)}
            answer = await changer.patch(f"/imports/{import_id}/citizens/1", json=fields)
            assert version_of(answer) == version
            answered = version
            await asyncio.sleep(chance.random() * 0.01)

    async def read(client: httpx.AsyncClient, path: str) -> None:
        seen = '""'
        while not changing.done():
            least = answered
            headers = {"accept-encoding": chance.choice(CODINGS), "if-none-match": seen}
            answer = await client.get(f"/imports/{import_id}/{path}", headers=headers)
            seen = answer.headers["etag"]
            read_versions.add(version_of(answer))
            assert version_of(answer) >= least
            assert answer.status_code == 304 or is_of(version_of(answer), answer)

    changing = asyncio.create_task(change())
    reading = [read(client, path) for client in readers for path in ("citizens", "citizens/birthdays")]
    ends = await asyncio.gather(changing, *reading, return_exceptions=True)
    for failure in filter(None, ends):
        raise failure
    assert len(read_versions) > changes / 10, "too few were read to show anything"


def version_of(answer: httpx.Response) -> int:
    assert answer.status_code in (200, 304), answer.text
    return int(answer.headers["etag"].strip('"').split("-")[0])


@pytest.fixture
async def two_in_process(db: Database) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two applications on one database, each with answers of its own."""
    transports = [httpx.ASGITransport(application(MODULES, db)) for _ in range(2)]  # type: ignore[arg-type]
    clients = [httpx.AsyncClient(transport=transport, base_url="http://kinfolk") for transport in transports]
    yield clients
    for client in clients:
        await client.aclose()


async def test_two_applications_never_disagree(two_in_process: list[httpx.AsyncClient]) -> None:
    await try_race(two_in_process[0], two_in_process * READERS)


async def test_if_an_edition_were_remembered_they_would(
    two_in_process: list[httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = Database.gathered
    remembered: dict[Any, list[Any]] = {}

    async def remember(self: Database, operation: Any, one: Any) -> Any:
        if not remembered.get(one):
            remembered[one] = [await gathered(self, operation, one)] * REMEMBERED
        return remembered[one].pop()

    monkeypatch.setattr(Database, "gathered", remember)
    with pytest.raises(AssertionError):
        await try_race(two_in_process[0], two_in_process * READERS)


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "with Redis"])
async def test_two_processes_never_disagree(make_database: Any, redis_server: RedisServer, is_shared: bool) -> None:
    url = await asyncio.to_thread(make_database, "two")
    more = ("--redis-url", redis_server.url) if is_shared else ()
    with Service("api", "--pg-url", url, *more) as one, Service("api", "--pg-url", url, *more) as other:
        async with (
            httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=30) as first,
            httpx.AsyncClient(base_url=other.url, trust_env=False, timeout=30) as second,
        ):
            await try_race(first, [first, second] * READERS, CHANGES // 2)
        assert one.end() == other.end() == 0
        found = {
            where: bool(one.lines(f"cached={where}") + other.lines(f"cached={where}"))
            for where in ("memory", "redis", "nowhere")
        }
    assert found == {"memory": True, "redis": is_shared, "nowhere": True}


async def test_an_import_that_is_gone_is_not_answered_from_memory(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, [])
    assert await listed(client, import_id) == []
    async with db.connection() as conn:
        await conn.execute("DELETE FROM imports WHERE import_id = $1", import_id)
    assert refusal(await client.get(f"/imports/{import_id}/citizens")) == (404, "no-such-import")
