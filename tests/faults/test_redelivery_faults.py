"""Messages that come back: the consumer is told to end, the network flaps, or one hangs or kills who works on it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from tests.conftest import run_sql
from tests.noting_product import DEADLY, NewNote, brief, main, take
from tests.rabbit_client import (
    PARKING,
    QUEUE,
    are_noted,
    are_waiting,
    channel_to,
    consumer,
    consuming_here,
    noted,
    send,
    taken,
    waiting,
)

import kinfolk.kit.consumer
from kinfolk.kit.consumer import DEATHS_BEFORE_PARKING
from kinfolk.kit.db import Database
from kinfolk.kit.lanes import Lane
from kinfolk.kit.rabbit import declare

ENDS = 5
CUTS = 25
BYTES_BEFORE_A_CUT = 2_500
"""Of what RabbitMQ says: declaring takes less, and all that were sent take more."""


async def send_until(is_over: Callable[[], bool], channel: AbstractChannel, at_once: int, sent: list[str]) -> None:
    """Notes with numbers, so many at a time; `sent` are those that RabbitMQ has."""
    while not is_over():
        some = [f"note {len(sent) + number}" for number in range(at_once)]
        await asyncio.gather(*(send(channel, words) for words in some))
        sent.extend(some)


async def test_one_that_is_told_to_end_in_the_middle_leaves_nothing_redelivered(amqp_url: str, notes_url: str) -> None:
    sent: list[str] = []
    service = consumer(amqp_url, notes_url).wait_ready()
    async with channel_to(amqp_url) as channel:
        sending = asyncio.ensure_future(send_until(lambda: service.process.poll() is not None, channel, 100, sent))
        await are_noted(notes_url, 500)
        assert await asyncio.to_thread(service.end) == 0
        await sending
        done = await noted(notes_url)
        left = [await taken(channel, QUEUE) for _ in range(await waiting(channel, QUEUE))]
    assert [message.body for message in left if message.delivery.redelivered] == []  # type: ignore[union-attr]
    assert not any((message.header.properties.headers or {}).get("x-delivery-count") for message in left)
    ids = Counter(f"id.{words}" for words in done.elements())
    assert ids + Counter(message.header.properties.message_id for message in left) == Counter(f"id.{w}" for w in sent)


async def test_what_is_on_its_way_while_a_consumer_ends_is_not_redelivered(
    amqp_url: str, notes_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they come so slowly that they never fill what RabbitMQ may give."""
    monkeypatch.setattr(kinfolk.kit.consumer, "SECONDS_TO_FILL", 0.0)  # or it would wait for those on their way
    sent: list[str] = []
    left: list[DeliveredMessage] = []
    async with Database(notes_url, size=6) as db, channel_to(amqp_url) as channel:
        for _ in range(ENDS):
            async with consuming_here(db, amqp_url, main) as work:
                sending = asyncio.ensure_future(send_until(work.done, channel, 20, sent))
                await are_noted(notes_url, len(sent) - len(left) + 20)
            await sending
            left += [await taken(channel, QUEUE) for _ in range(await waiting(channel, QUEUE))]
    assert [message.body for message in left if message.delivery.redelivered] == []  # type: ignore[union-attr]
    ids = Counter(f"id.{words}" for words in (await noted(notes_url)).elements())
    assert ids + Counter(each.header.properties.message_id for each in left) == Counter(f"id.{words}" for words in sent)


class Cutting:
    """A way to RabbitMQ whose first connections are cut as soon as they have said so much."""

    def __init__(self, url: str) -> None:
        self.cuts = 0
        self._place = urlsplit(url)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The URL of this way."""
        async with await asyncio.start_server(self._relay, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield self._place._replace(netloc=f"guest:guest@127.0.0.1:{port}").geturl()

    async def _relay(self, ours: asyncio.StreamReader, to_us: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection(self._place.hostname, self._place.port)
        there = asyncio.ensure_future(self._copy(ours, to_them))
        back = asyncio.ensure_future(self._copy(theirs, to_us, BYTES_BEFORE_A_CUT if self.cuts < CUTS else None))
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        for end in (to_us, to_them):
            end.transport.abort()
        await asyncio.wait([there, back])

    async def _copy(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, limit: int | None = None) -> None:
        said = 0
        with suppress(OSError):
            while piece := await source.read(65_536):
                to.write(piece)
                await to.drain()
                said += len(piece)
                if limit is not None and said > limit:
                    self.cuts += 1
                    return


async def test_a_network_that_flaps_parks_nothing(amqp_url: str, notes_url: str) -> None:
    sent = [f"slow {number}" for number in range(25)]
    cutting = Cutting(amqp_url)
    async with channel_to(amqp_url) as channel, cutting.open() as url:
        await declare(channel, main, main.delays_seconds)
        await asyncio.gather(*(send(channel, words) for words in sent))
        with await asyncio.to_thread(lambda: consumer(url, notes_url).wait_ready()) as service:
            await are_noted(notes_url, len(sent))
            await are_waiting(channel, QUEUE, 0)
            assert service.log.count("event=broker_away") == cutting.cuts == CUTS
            assert await asyncio.to_thread(service.end) == 0
        assert await waiting(channel, PARKING) == 0
    assert await noted(notes_url) == Counter(sent)


async def test_one_that_kills_its_consumers_is_parked_and_no_other(amqp_url: str, notes_url: str) -> None:
    good = [f"note {number}" for number in range(100)]
    async with channel_to(amqp_url) as channel:
        await declare(channel, main, main.delays_seconds)
        await asyncio.gather(*(send(channel, words) for words in [*good[:10], DEADLY, *good[10:]]))
        with consumer(amqp_url, notes_url):
            parked = await taken(channel, PARKING)
            await are_noted(notes_url, len(good))
            await are_waiting(channel, QUEUE, 0)
        assert await waiting(channel, PARKING) == 0
    headers = parked.header.properties.headers or {}
    assert (headers["x-error"], headers["x-attempt"]) == (
        "Whoever worked on it died, again and again.", DEATHS_BEFORE_PARKING
    )  # fmt: skip
    assert parked.header.properties.message_id == f"id.{DEADLY}"
    assert await noted(notes_url) == Counter(good)


async def test_one_that_hangs_holds_up_nobody_who_came_with_it(amqp_url: str, notes_url: str) -> None:
    """They share a transaction for a second at the most; then each has its own."""
    lane = Lane("notes.patient", exchange=brief.exchange, delays_seconds=(60,), limit_seconds=3_600)
    lane.takes(NewNote)(take)
    words = [f"note {number}" for number in range(100)]
    await asyncio.to_thread(run_sql, notes_url, "TRUNCATE notes", "TRUNCATE inbox")
    async with Database(notes_url, size=6) as db, channel_to(amqp_url) as channel:
        await declare(channel, lane, lane.delays_seconds)
        await send(channel, "endless", queue=lane.name)
        await asyncio.gather(*(send(channel, one, queue=lane.name) for one in words))
        async with consuming_here(db, amqp_url, lane) as work:
            await are_noted(notes_url, len(words))
            work.cancel()
        assert await noted(notes_url) == Counter(words)
        await channel.queue_purge(lane.name)
