"""Messages on their way while something dies: nothing is lost, and each has its effect once."""

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Self

import aiormq
import psutil
from tests.conftest import run_sql
from tests.postgres_places import eventually
from tests.rabbit_client import (
    PARKING,
    QUEUE,
    are_noted,
    are_waiting,
    channel_to,
    consumer,
    noted,
    send,
    waiting,
)
from tests.rabbit_node import RabbitNode

SLOWLY = """
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
    CREATE TRIGGER slowly BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION take_time()
"""


async def check_each_once(amqp_url: str, pg_url: str, sent: list[str]) -> None:
    """All that were sent are noted once, and none is anywhere else."""
    await are_noted(pg_url, len(sent))
    async with channel_to(amqp_url) as channel:
        await are_waiting(channel, QUEUE, 0)
        assert await waiting(channel, PARKING) == 0
    assert await noted(pg_url) == Counter(sent)


class Sending:
    """A sender at a steady rate, who sends again what was not confirmed, with the same id."""

    def __init__(self, url: str, a_second: int) -> None:
        self.confirmed: list[str] = []
        self._url = url
        self._a_second = a_second
        self._is_over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._send())
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.end()

    async def _send(self) -> None:
        number = 0
        while not self._is_over.is_set():
            with suppress(aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError):
                async with asyncio.timeout(10), channel_to(self._url) as channel:
                    begun = time.monotonic() - number / self._a_second
                    while not self._is_over.is_set():
                        async with asyncio.timeout(5):
                            ten = [f"note {number + each}" for each in range(10)]
                            await asyncio.gather(*(send(channel, words) for words in ten))
                        self.confirmed += ten
                        number += 10
                        await asyncio.sleep(begun + number / self._a_second - time.monotonic())
            await asyncio.sleep(0.1)

    async def more(self, count: int) -> None:
        """Wait for so many more that are confirmed."""
        wanted = len(self.confirmed) + count
        deadline = time.monotonic() + 240
        while len(self.confirmed) < wanted:
            assert time.monotonic() < deadline, "nothing is confirmed any more"
            await asyncio.sleep(0.05)

    async def end(self) -> list[str]:
        self._is_over.set()
        await self._task
        return self.confirmed


async def test_the_consumer_is_killed_in_the_middle_of_3000_messages_three_times(amqp_url: str, notes_url: str) -> None:
    sent = [f"note {number}" for number in range(3_000)]
    await asyncio.to_thread(run_sql, notes_url, SLOWLY)  # so that the last kill is in the middle, too
    service = consumer(amqp_url, notes_url).wait_ready()
    async with channel_to(amqp_url) as channel:
        await asyncio.gather(*(send(channel, words) for words in sent))
    left = []
    for so_far in (300, 900, 1_500):
        await are_noted(notes_url, so_far)
        for process in [service.process, *psutil.Process(service.process.pid).children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)
        service.process.wait()
        left.append(len(sent) - len(await noted(notes_url)))
        service = consumer(amqp_url, notes_url).wait_ready()
    with service:
        await check_each_once(amqp_url, notes_url, sent)
    assert all(left), "all was done before: this shows nothing"


async def test_rabbitmq_ends_and_comes_back_under_300_messages_a_second(notes_url: str) -> None:
    """Told to end, and killed."""
    with RabbitNode() as node, consumer(node.url(), notes_url) as service:
        async with Sending(node.url(), a_second=300) as sending:
            for end in (node.stop, node.kill):
                await sending.more(300)
                before = len(service.lines("event=broker_away"))
                await asyncio.to_thread(end)
                assert await asyncio.to_thread(
                    eventually, lambda before=before: len(service.lines("event=broker_away")) > before
                )
                await asyncio.to_thread(node.start)
            await sending.more(300)
            await check_each_once(node.url(), notes_url, await sending.end())


async def test_two_consumers_share_the_work(amqp_url: str, notes_url: str) -> None:
    sent = [f"note {number}" for number in range(2_000)]
    with consumer(amqp_url, notes_url) as one, consumer(amqp_url, notes_url) as two:
        async with channel_to(amqp_url) as channel:
            await asyncio.gather(*(send(channel, words) for words in sent + sent[:500]))  # some of them twice
        await check_each_once(amqp_url, notes_url, sent)
    both = [len(service.lines("outcome=done")) for service in (one, two)]
    assert min(both) > 0, both
    assert sum(both) == len(sent)
