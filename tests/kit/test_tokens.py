"""Tokens: one set of tests for every store, and what only one of them can suffer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.memory_tokens import MemoryTokens
from tests.redis_server import RedisServer

from kinfolk.kit import tokens as stores
from kinfolk.kit.auth import Tokens, TokensAway, Who
from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.tokens import Embedded, InRedis, Remembered, are_elsewhere, kept_tokens, new_token

ANNA, BERT = Who(7, "analyst"), Who(8, "admin")
Open = Callable[[], Tokens]


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    """Each statement is its own transaction."""
    async with db.connection() as conn:
        yield conn


@pytest.fixture(params=["memory", "embedded", "redis", "remembered"])
def open_store(request: pytest.FixtureRequest, db: Database) -> Open:
    """Opens the store as one more process would."""
    if request.param == "memory":
        memory = MemoryTokens()
        return lambda: memory
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return lambda: InRedis(server.url, "secret")
    if request.param == "embedded":
        return lambda: Embedded(db)
    return lambda: Remembered(Embedded(db))


async def test_a_token_stands_for_somebody_until_it_is_revoked(open_store: Open, conn: Connection) -> None:
    async with open_store() as one, open_store() as other:
        first, second, berts = new_token(), new_token(), new_token()
        assert await one.look_up(first) is None
        for token, who in ((first, ANNA), (second, ANNA), (berts, BERT)):
            await one.keep(conn, token, who, 60)
        assert [await other.look_up(token) for token in (first, second, berts)] == [ANNA, ANNA, BERT]
        await one.revoke(conn, first)
        assert [await one.look_up(token) for token in (first, second, berts)] == [None, ANNA, BERT]
        await one.revoke_all(conn, 7)
        assert [await one.look_up(token) for token in (first, second, berts)] == [None, None, BERT]
        third = new_token()
        await other.keep(conn, third, ANNA, 60)
        assert [await one.look_up(token) for token in (second, third)] == [None, ANNA]
        await one.revoke_all(conn, 8)


async def test_a_token_expires(open_store: Open, conn: Connection) -> None:
    async with open_store() as store:
        short, long = new_token(), new_token()
        await store.keep(conn, long, BERT, 600)
        await store.keep(conn, short, ANNA, 1)
        async with asyncio.timeout(30):
            while await store.look_up(short) is not None:  # there is no news of it
                await asyncio.sleep(0.05)
        assert await store.look_up(long) == BERT
        await store.revoke_all(conn, 8)


async def test_what_one_process_revokes_another_refuses_soon(open_store: Open, conn: Connection) -> None:
    async with open_store() as one, open_store() as other:
        for revoke in (lambda token: one.revoke(conn, token), lambda _token: one.revoke_all(conn, 7)):
            token = new_token()
            await one.keep(conn, token, ANNA, 60)
            assert await other.look_up(token) == ANNA
            await revoke(token)
            async with asyncio.timeout(30):
                while await other.look_up(token) is not None:  # there is no news of it
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("word", ["", "x" * 200, "é", "a b", "\x00"])
async def test_what_is_no_token_stands_for_nobody(open_store: Open, word: str) -> None:
    async with open_store() as store:
        assert await store.look_up(word) is None


async def test_no_store_holds_a_token(db: Database, conn: Connection, redis_server: RedisServer) -> None:
    token = new_token()
    async with InRedis(redis_server.url, "secret") as redis:
        await redis.keep(conn, token, ANNA, 60)
        await Embedded(db).keep(conn, token, ANNA, 60)
        assert await redis.look_up(token) == await Embedded(db).look_up(token) == ANNA
    with redis_server.client as client:
        held = b"".join(
            name + (client.get(name) or b"") for name in client.scan_iter() if client.type(name) == b"string"
        )
    assert b"kinfolk:token:" in held
    assert token.encode() not in held
    rows = str([tuple(row) for row in await conn.fetch("SELECT * FROM tokens")])
    assert "analyst" in rows
    assert token not in rows
    assert len({new_token() for _ in range(100)}) == 100


async def test_with_the_user_the_tokens_are_changed_or_neither(db: Database) -> None:
    token = new_token()
    async with db.transaction() as conn:
        await Embedded(db).keep(conn, token, ANNA, 60)
        assert await Embedded(db).look_up(token) is None
    assert await Embedded(db).look_up(token) == ANNA


async def test_an_answer_is_remembered_for_less_than_a_second_and_within_bounds(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(stores, "monotonic", lambda: now)
    monkeypatch.setattr(stores, "MOST_REMEMBERED", 3)
    kept, asked = MemoryTokens(), []
    find = kept.look_up

    async def counted(token: str) -> Who | None:
        asked.append(token)
        return await find(token)

    kept.look_up = counted  # type: ignore[method-assign]
    store = Remembered(kept)
    await store.keep(conn, "a", ANNA, 10_000_000)
    assert [await store.look_up("a") for _ in range(5)] == [ANNA] * 5
    assert asked == ["a"]
    await kept.revoke(conn, "a")
    now += stores.REMEMBERED_SECONDS - 0.01
    assert await store.look_up("a") == ANNA
    now += 0.02
    assert stores.REMEMBERED_SECONDS < 1
    assert await store.look_up("a") is None
    assert await store.look_up("a") is None  # what is wrong is never remembered: nobody can fill the memory with it
    assert asked == ["a"] * 3
    for name in "bcdefg":
        await store.keep(conn, name, ANNA, 10_000_000)
        assert await store.look_up(name) == ANNA
        assert len(store._found) <= 3


async def test_a_redis_that_is_away_lets_nobody_pass(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "PATIENCE_SECONDS", 0.2)
    with RedisServer() as server:
        async with InRedis(server.url, "secret") as store:
            token = new_token()
            await store.keep(conn, token, ANNA, 600)
            server.pause()
            for refused in (store.look_up(token), store.revoke(conn, token), store.revoke_all(conn, 7)):
                with pytest.raises(TokensAway):
                    await refused
            server.go_on()
            async with asyncio.timeout(30):
                while await passes(store, token) is None:
                    await asyncio.sleep(0.05)
            server.kill()
            for _ in range(3):
                with pytest.raises(TokensAway):
                    await store.look_up(token)
            with pytest.raises(TokensAway):
                await store.keep(conn, new_token(), ANNA, 60)


async def passes(store: Tokens, token: str) -> Who | None:
    try:
        return await store.look_up(token)
    except TokensAway:
        return None


async def test_what_redis_loses_or_somebody_forges_is_refused(redis_server: RedisServer, conn: Connection) -> None:
    async with InRedis(redis_server.url, "secret") as store, InRedis(redis_server.url, "other") as stranger:
        mine, theirs = new_token(), new_token()
        await store.keep(conn, mine, ANNA, 60)
        await stranger.keep(conn, theirs, BERT, 60)
        assert await stranger.look_up(theirs) == BERT
        assert await store.look_up(theirs) is None
        with redis_server.client as client:
            names = {token: stores._token_name(token) for token in (mine, theirs)}
            kept = client.get(names[mine])
            for forged in (b"", b"x", kept.replace(b"analyst", b"admin"), kept[:20]):
                client.set(names[mine], forged)
                assert await store.look_up(mine) is None
            client.set(names[theirs], kept)  # of another token
            assert await store.look_up(theirs) is None
            client.set(names[mine], kept)
            assert await store.look_up(mine) == ANNA
            client.delete("kinfolk:tokens-of:7")  # evicted
            assert await store.look_up(mine) is None
        await stranger.revoke_all(conn, 8)


async def test_who_knows_only_the_database_learns_of_tokens_in_a_redis(
    db: Database, redis_server: RedisServer, conn: Connection
) -> None:
    who, token = Who(987_654_321, "analyst"), new_token()
    async with InRedis(redis_server.url, "secret") as redis:
        for _ in range(2):
            await Embedded(db).keep(conn, new_token(), who, 60)
            assert not await are_elsewhere(conn, 987_654_321)
            await redis.keep(conn, token, who, 60)
            await redis.keep(conn, new_token(), who, 60)
            await Embedded(db).revoke_all(conn, 987_654_321)
            assert await redis.look_up(token) == who
            assert await are_elsewhere(conn, 987_654_321)
            await redis.revoke_all(conn, 987_654_321)
            assert not await are_elsewhere(conn, 987_654_321)
    assert not await conn.fetch("SELECT 1 FROM tokens WHERE user_id = 987654321 AND length(token_hash) < 32")


async def test_a_database_that_is_away_lets_nobody_pass() -> None:
    async with Database("postgresql://127.0.0.1:1/none", wait_seconds=0.5) as away:
        with pytest.raises(DatabaseAway):
            await Embedded(away).look_up("any")


def test_redis_is_taken_where_there_is_one(db: Database) -> None:
    kinds: list[Any] = [kept_tokens(db, url, "secret") for url in (None, "redis://127.0.0.1:1")]
    assert [type(store._kept) for store in kinds] == [Embedded, InRedis]
