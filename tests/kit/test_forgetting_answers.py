"""Forgetting kept answers: in each process, in Redis, and also those that are made just then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.redis_server import RedisServer
from tests.waiting import until

from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Database
from kinfolk.kit.forgetting import forgetting, owe
from kinfolk.kit.shelf import Shelf


async def fill(cache: Cache, *places: str) -> None:
    async def made() -> tuple[str, bytes]:
        return '"1"', b"body"

    for place in places:
        kept = await cache.answer(place, '"1"', made)
        await kept.packed("gzip", packed)


async def packed(body: bytes) -> bytes:
    return body + b" packed"


def kept_in(cache: Cache) -> set[str]:
    return set(cache._answers)


@pytest.fixture
async def two(db: Database, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Cache]]:
    """The caches of two processes that listen, on one Redis, which begins empty and is never thought to be away."""
    monkeypatch.setattr("kinfolk.kit.shelf.PATIENCE_SECONDS", 30)
    with redis_server.client as client:
        client.flushdb()
    async with AsyncExitStack() as stack:
        caches = [await stack.enter_async_context(Cache(shelf=Shelf(redis_server.url, "secret"))) for _ in range(2)]
        dbs = [db, await stack.enter_async_context(Database(db.url, size=2))]
        for each, cache in zip(dbs, caches, strict=True):
            await stack.enter_async_context(forgetting(each, cache))
        yield caches


async def until_listening(db: Database, caches: list[Cache]) -> None:
    """Until both let go of what they are told to."""
    for cache in caches:
        await fill(cache, "probe/1")
    async with asyncio.timeout(60):
        while any("probe/1" in kept_in(cache) for cache in caches):
            async with db.transaction() as conn:
                await owe(conn, "probe/")
            await asyncio.sleep(0.02)
        for cache in caches:  # what is made while a probe is still heard is not kept
            while "last/1" not in kept_in(cache):
                await fill(cache, "last/1")
    async with db.transaction() as conn:
        await owe(conn, "probe/")  # who has only just begun to listen has let go of it, and left it in Redis
        await owe(conn, "last/")
    await until(lambda: not any("last/1" in kept_in(cache) for cache in caches))


async def test_all_processes_and_redis_let_go_once_it_is_committed(
    two: list[Cache], db: Database, redis_server: RedisServer
) -> None:
    await until_listening(db, two)
    with redis_server.client as client:
        client.set("kinfolk:token:1", "of somebody else")
    for cache in two:
        await fill(cache, "imports/1/citizens", "imports/1/birthdays", "imports/10/citizens")
    await until(lambda: len(redis_server.names()) == 7)
    async with db.transaction() as conn:
        await owe(conn, "imports/1/")
        assert [len(kept_in(cache)) for cache in two] == [3, 3]
    await until(lambda: [kept_in(cache) for cache in two] == [{"imports/10/citizens"}] * 2)
    others = ["kinfolk:answer:imports/10/citizens:1", "kinfolk:answer:imports/10/citizens:1:gzip", "kinfolk:token:1"]
    await until(lambda: redis_server.names() == others)
    assert [cache.size_bytes for cache in two] == [1_024 + len(b"body") + len(b"body packed")] * 2


async def test_what_is_rolled_back_is_kept(two: list[Cache], db: Database) -> None:
    await until_listening(db, two)

    async def fail() -> None:
        async with db.transaction() as conn:
            await owe(conn, "imports/1/")
            raise ZeroDivisionError

    await fill(two[0], "imports/1/citizens", "imports/2/citizens")
    with pytest.raises(ZeroDivisionError):
        await fail()
    async with db.transaction() as conn:  # what is told next comes after it
        await owe(conn, "imports/2/")
    await until(lambda: kept_in(two[0]) == {"imports/1/citizens"})


@pytest.mark.parametrize("step", ["make", "take", "pack"])
async def test_what_is_made_just_then_is_answered_and_not_kept(redis_server: RedisServer, step: str) -> None:
    """It is of the state before."""
    with redis_server.client as client:
        client.flushdb()
    shelf = Shelf(redis_server.url, "secret")
    async with Cache(shelf=shelf) as cache:
        if step == "take":  # another process has put it there
            async with Cache(shelf=Shelf(redis_server.url, "secret")) as other:
                await fill(other, "place/1")
            await until(lambda: len(redis_server.names()) == 2)
        if step == "pack":
            await fill(cache, "place/1")
        taken = shelf.take

        async def take_late(name: str) -> bytes | None:
            found = await taken(name)
            await cache.forget("place/")
            return found if step == "take" else None

        async def made() -> tuple[str, bytes]:
            await cache.forget("place/")
            return '"1"', b"body"

        kept = await cache.answer("place/1", '"1"', made) if step == "make" else None
        shelf.take = take_late  # type: ignore[method-assign]
        if step == "take":
            kept = await cache.answer("place/1", '"1"', made)
        if step == "pack":
            kept = cache._answers["place/1"]
            assert await kept.packed("br", packed) == b"body packed"
        assert kept is not None
        assert kept.body == b"body"
        assert (kept_in(cache), cache.size_bytes) == (set(), 0)
    await until(lambda: redis_server.names() == [])


async def test_after_a_lost_connection_all_is_forgotten(two: list[Cache], db: Database) -> None:
    """What was told meanwhile was not heard."""
    await until_listening(db, two)
    for cache in two:
        await fill(cache, "imports/1/citizens")
    async with db.connection() as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
    await until(lambda: not any(map(kept_in, two)))
    await until_listening(db, two)
    for cache in two:
        await fill(cache, "imports/1/citizens")
    async with db.transaction() as conn:
        await owe(conn, "imports/1/")
    await until(lambda: not any(map(kept_in, two)))
