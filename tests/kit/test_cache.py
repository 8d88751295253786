"""What is kept, for how long, and that it is made once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.redis_server import RedisServer

from kinfolk.kit.cache import OVERHEAD_BYTES, Cache
from kinfolk.kit.log import facts
from kinfolk.kit.metrics import exposition
from kinfolk.kit.shelf import Shelf


class Maker:
    """Makes an answer when it is let, and counts."""

    def __init__(self, tag: str, body: bytes, *failures: BaseException) -> None:
        self.made = 0
        self.let = asyncio.Event()
        self.let.set()
        self._answer = (tag, body)
        self._failures = list(failures)

    async def __call__(self) -> tuple[str, bytes]:
        self.made += 1
        await self.let.wait()
        if self._failures:
            raise self._failures.pop(0)
        return self._answer


async def settle() -> None:
    """Everybody has come as far as possible without what is not let."""
    for _ in range(10):
        await asyncio.sleep(0)


async def is_kept(cache: Cache, place: str, tag: str) -> bool:
    maker = Maker(tag, b"made anew")
    await cache.answer(place, tag, maker)
    return not maker.made


def room_for(*sizes: int) -> int:
    return sum(sizes) + len(sizes) * OVERHEAD_BYTES


async def test_it_is_made_once_for_its_tag_and_anew_for_another() -> None:
    cache = Cache()
    first, again, newer = Maker("1", b"first"), Maker("1", b"again"), Maker("2", b"newer")
    kept = await cache.answer("place", "1", first)
    assert (kept.tag, kept.body) == ("1", b"first")
    assert await cache.answer("place", "1", again) is kept
    assert (await cache.answer("elsewhere", "1", again)).body == b"again"
    assert (await cache.answer("place", "2", newer)).body == b"newer"
    assert (first.made, again.made, newer.made) == (1, 1, 1)
    assert cache.size_bytes == room_for(5, 5), "a place has one answer"


async def test_what_turns_out_newer_is_kept_as_such() -> None:
    cache = Cache()
    assert (await cache.answer("place", "1", Maker("2", b"newer"))).tag == "2"
    assert await is_kept(cache, "place", "2")


async def test_those_asked_for_the_longest_time_ago_go_first() -> None:
    cache = Cache(room_for(100, 100, 100))
    for place in "abc":
        await cache.answer(place, "1", Maker("1", bytes(100)))
    assert await is_kept(cache, "a", "1")
    await cache.answer("d", "1", Maker("1", bytes(100)))
    assert cache.size_bytes == room_for(100, 100, 100)
    assert [await is_kept(cache, place, "1") for place in "cad"] == [True, True, True]
    assert not await is_kept(cache, "b", "1")


async def test_what_is_larger_than_everything_is_not_kept_and_drives_nothing_out() -> None:
    cache = Cache(room_for(100, 100))
    await cache.answer("a", "1", Maker("1", bytes(100)))
    await cache.answer("b", "1", Maker("1", bytes(10)))
    large = await cache.answer("b", "2", Maker("2", bytes(5_000)))
    assert len(large.body) == 5_000
    assert cache.size_bytes == room_for(100), "nor is the one that it replaces"
    assert await is_kept(cache, "a", "1")


async def test_nothing_is_kept_where_nothing_may_be() -> None:
    cache = Cache(0)
    assert (await cache.answer("a", "1", Maker("1", b"body"))).body == b"body"
    assert not await is_kept(cache, "a", "1")
    assert cache.size_bytes == 0


async def test_twenty_who_ask_at_once_cause_one_making() -> None:
    cache = Cache()
    maker = Maker("1", b"body")
    answers = await asyncio.gather(*(cache.answer("place", "1", maker) for _ in range(20)))
    assert maker.made == 1
    assert {answer.body for answer in answers} == {b"body"}


async def test_a_cancelled_leader_takes_nobody_along() -> None:
    cache = Cache()
    maker = Maker("1", b"body")
    maker.let.clear()
    asking = [asyncio.create_task(cache.answer("place", "1", maker)) for _ in range(3)]
    await settle()
    asking[0].cancel()
    await settle()
    maker.let.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["CancelledError", "Kept", "Kept"]
    assert maker.made == 1


async def test_a_failure_is_the_leaders_and_the_others_try_again_together() -> None:
    cache = Cache()
    maker = Maker("1", b"body", ConnectionError("lost"))
    outcomes = await asyncio.gather(*(cache.answer("place", "1", maker) for _ in range(20)), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ConnectionError"] + ["Kept"] * 19
    assert maker.made == 2


async def test_nobody_tries_for_ever() -> None:
    cache = Cache()
    maker = Maker("1", b"body", *(ConnectionError(number) for number in range(3)))
    outcomes = await asyncio.gather(*(cache.answer("place", "1", maker) for _ in range(20)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["0"] + ["1"] * 19
    assert maker.made == 2
    assert not await is_kept(cache, "place", "1")


async def test_a_packed_form_is_made_once_and_counts() -> None:
    cache = Cache(room_for(100) + 50)
    kept = await cache.answer("place", "1", Maker("1", bytes(100)))
    packed = 0

    async def pack(body: bytes) -> bytes:
        nonlocal packed
        packed += 1
        await asyncio.sleep(0)
        return b"packed %d" % len(body)

    forms = await asyncio.gather(*(kept.packed("zstd", pack) for _ in range(20)))
    assert (set(forms), packed) == ({b"packed 100"}, 1)
    assert await kept.packed("zstd", pack) == b"packed 100"
    assert packed == 1
    assert cache.size_bytes == room_for(100) + 10 == kept.size_bytes
    for _ in range(2):  # no room: it is packed, and not kept
        assert await kept.packed("gzip", bytes_of(41)) == bytes(41)
    assert cache.size_bytes == room_for(100) + 10
    await cache.answer("place", "2", Maker("2", b""))
    assert await kept.packed("br", bytes_of(1)) == bytes(1), "whoever still has the old one gets it packed"
    assert cache.size_bytes == room_for(0)


def bytes_of(size: int) -> Any:
    async def pack(_body: bytes) -> bytes:
        return bytes(size)

    return pack


def counted() -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in exposition()[0].decode().splitlines() if line.startswith("kinfolk_cache")]
    return {name: float(value) for name, value in lines}


async def test_it_is_counted_where_answers_were_found() -> None:
    cache = Cache()
    before = counted()
    with facts() as noted:
        await cache.answer("place", "1", Maker("1", b"body"))
        assert noted.pop("cached") == "nowhere"
        for _ in range(3):
            await cache.answer("place", "1", Maker("1", b"body"))
        assert noted == {"cached": "memory"}
    after = counted()
    found = 'kinfolk_cached_answers_total{found="%s"}'
    assert [after[found % where] - before[found % where] for where in ("memory", "redis", "nowhere")] == [3, 0, 1]
    assert after["kinfolk_cache_bytes"] == room_for(4)


@pytest.fixture
async def shelves(redis_server: RedisServer) -> AsyncIterator[list[Shelf]]:
    shelves = [Shelf(redis_server.url, "secret") for _ in range(2)]
    yield shelves
    for shelf in shelves:
        await shelf.close()


async def test_what_one_made_another_takes_from_the_shelf(shelves: list[Shelf], redis_server: RedisServer) -> None:
    maker = Maker('"1"', b"body")
    async with Cache(shelf=shelves[0]) as one:
        kept = await one.answer("shared/1", '"1"', maker)
        assert await kept.packed("gzip", bytes_of(3)) == bytes(3)
    assert {"kinfolk:answer:shared/1:1", "kinfolk:answer:shared/1:1:gzip"} <= set(redis_server.names())
    other = Cache(0, shelves[1])
    with facts() as noted:
        taken = await other.answer("shared/1", '"1"', maker)
    assert (taken.tag, taken.body, maker.made) == ('"1"', b"body", 1)
    assert noted == {"cached": "redis"}
    assert await taken.packed("gzip", bytes_of(4)) == bytes(3)
    assert await taken.packed("br", bytes_of(5)) == bytes(5)
    assert (await other.answer("shared/1", '"2"', Maker('"2"', b"new"))).body == b"new"
