"""A Redis that is there, and one that is away, slow, full, lying or somebody else's."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.redis_server import RedisServer

from kinfolk.kit import shelf as shelves
from kinfolk.kit.shelf import EXPIRY_SECONDS, MOST_OWED, PATIENCE_SECONDS, SCANNED, Shelf

LARGE = bytes(range(256)) * 8_000


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr("kinfolk.kit.log.write_line", lambda event, *_more: written.append(event))
    return written


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those that put what must arrive: a busy machine may keep it longer than a request would wait."""
    monkeypatch.setattr(shelves, "PATIENCE_SECONDS", 60)


@asynccontextmanager
async def shelf_at(url: str, secret: str = "secret") -> AsyncIterator[Shelf]:
    shelf = Shelf(url, secret)
    try:
        yield shelf
    finally:
        await shelf.close()


async def put(shelf: Shelf, name: str, body: bytes) -> None:
    shelf.put(name, body)
    while shelf._owed:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("body", [b"", b"body", LARGE], ids=["empty", "small", "large"])
async def test_what_is_put_can_be_taken_until_it_expires(redis_server: RedisServer, body: bytes) -> None:
    async with shelf_at(redis_server.url) as one, shelf_at(redis_server.url) as other:
        name = f"kept {len(body)}"
        assert await other.take(name) is None
        await put(one, name, body)
        assert await other.take(name) == body
        assert await other.is_reachable()
    with redis_server.client as client:
        assert EXPIRY_SECONDS - 60 < client.ttl(name) <= EXPIRY_SECONDS


async def test_what_is_owed_is_put_before_the_end(redis_server: RedisServer, patient: None) -> None:
    async with shelf_at(redis_server.url) as one:
        one.put("owed", LARGE)
    async with shelf_at(redis_server.url) as other:
        assert await other.take("owed") == LARGE


async def test_beyond_a_bound_nothing_more_is_owed(redis_server: RedisServer, patient: None) -> None:
    async with shelf_at(redis_server.url) as shelf:
        for number in range(2 * MOST_OWED):
            shelf.put(f"many {number}", b"body")
    assert len([name for name in redis_server.names() if name.startswith("many")]) == MOST_OWED


async def test_what_begins_so_is_dropped_also_what_is_on_its_way(redis_server: RedisServer, patient: None) -> None:
    async with shelf_at(redis_server.url) as shelf:
        await put(shelf, "stays/1", b"body")
        with redis_server.client as client:
            client.mset({f"goes/{number}": b"body" for number in range(3 * SCANNED)})
        shelf.put("goes/late", LARGE)
        await shelf.drop("goes/")
        assert await shelf.take("stays/1") == b"body"
    assert [name for name in redis_server.names() if name.startswith("goes/")] == []


async def test_a_redis_that_is_away_drops_nothing_and_harms_nobody() -> None:
    async with shelf_at("redis://127.0.0.1:1") as shelf:
        await shelf.drop("goes/")
        assert not await shelf.is_reachable()


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda value: value[:-1],
        lambda value: value[:-1] + b"?",
        lambda value: b"",
        lambda value: value[:20],
        lambda value: b"body",
        lambda value: b"\0" * 32 + b"body",
    ],
)
async def test_what_was_not_put_by_one_who_knows_the_secret_is_not_there(
    redis_server: RedisServer, spoilt: Callable[[bytes], bytes]
) -> None:
    async with shelf_at(redis_server.url) as shelf, shelf_at(redis_server.url, "another secret") as stranger:
        await put(shelf, "proven", b"body")
        assert await stranger.take("proven") is None
        with redis_server.client as client:
            value = client.get("proven")
            assert isinstance(value, bytes)
            client.set("elsewhere", value)
            client.set("proven", spoilt(value))
        assert await shelf.take("elsewhere") is None, "it was put under another name"
        assert await shelf.take("proven") is None
        await put(shelf, "proven", b"body")
        assert await shelf.take("proven") == b"body"


async def test_a_value_of_another_kind_is_no_error(redis_server: RedisServer, lines: list[dict[str, Any]]) -> None:
    with redis_server.client as client:
        client.delete("list")
        client.rpush("list", "x")
    async with shelf_at(redis_server.url) as shelf:
        assert await shelf.take("list") is None
    assert "WRONGTYPE" in lines[0]["reason"]


async def test_a_full_redis_takes_nothing_and_keeps_nobody_waiting(lines: list[dict[str, Any]]) -> None:
    with RedisServer("--maxmemory", "3mb") as full:
        async with shelf_at(full.url) as shelf:
            for number in range(3):
                await put(shelf, f"full {number}", LARGE)
                assert await shelf.take(f"full {number}") in (LARGE, None)
            assert await shelf.is_reachable()
    assert [line["event"] for line in lines] == ["redis_away"]
    assert "OutOfMemory" in lines[0]["reason"]


async def test_one_that_is_away_costs_one_try_and_one_line_until_it_is_back(
    lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as redis:
        async with shelf_at(redis.url) as shelf:
            await put(shelf, "before", b"body")
            redis.kill()
            assert await shelf.take("before") is None
            assert not await shelf.is_reachable()
            redis.start()
            assert await shelf.take("before") is None, "it rests"
            await put(shelf, "after", b"body")
            assert redis.names() == []
            assert await shelf.is_reachable(), "who looks at it sees that it is there"
            assert [line["event"] for line in lines] == ["redis_away"]
            monkeypatch.setattr(shelves, "monotonic", lambda: time.monotonic() + shelves.REST_SECONDS + 1)
            await put(shelf, "after", b"body")
            assert await shelf.take("after") == b"body"
    assert [line["event"] for line in lines] == ["redis_away", "redis_back"]


async def test_patience_with_a_slow_one_is_short(lines: list[dict[str, Any]]) -> None:
    with RedisServer() as redis:
        async with shelf_at(redis.url) as shelf:
            await put(shelf, "slow", b"body")
            redis.pause()
            try:
                begun = time.monotonic()
                assert [await shelf.take("slow") for _ in range(100)] == [None] * 100
                assert PATIENCE_SECONDS * 0.9 < time.monotonic() - begun < 50 * PATIENCE_SECONDS, "waited for once"
            finally:
                redis.go_on()
    assert [line["reason"] for line in lines] == ["TimeoutError: "]


async def test_a_late_reply_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "REST_SECONDS", 0)
    with RedisServer() as redis:
        async with shelf_at(redis.url) as shelf:
            for number in range(3):
                await put(shelf, f"late {number}", b"%d" % number)
            redis.pause()
            assert await shelf.take("late 0") is None
            redis.go_on()
            assert [await shelf.take(f"late {number}") for number in (1, 2)] == [b"1", b"2"]


@pytest.mark.parametrize(
    "lie",
    [
        b"$4\r\nbody\r\n",
        b":1\r\n",
        b"*-7\r\n",
        b"$9999999999\r\n",
        b"$x\r\n",
        b"nonsense\r\n",
        b"*1\r\n" * 5_000,
        b"-MOVED 1 nowhere:1\r\n",
        b"",
    ],
)
async def test_a_liar_is_not_believed(lines: list[dict[str, Any]], lie: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while lie and await reader.read(65_536):
            writer.write(lie)
            await writer.drain()
        writer.close()

    liar = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = liar.sockets[0].getsockname()[1]
    async with shelf_at(f"redis://127.0.0.1:{port}") as shelf:
        assert await shelf.take("name") is None
        await put(shelf, "name", b"body")
    liar.close()
    await liar.wait_closed()
