"""RabbitMQ as a sender and an onlooker see it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiormq
import asyncpg
import msgspec
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

import kinfolk.kit.consumer
from kinfolk.kit.db import Database
from kinfolk.kit.lanes import Lane
from kinfolk.kit.rabbit import Amqp
from tests.noting_product import main
from tests.running import Service

PATIENCE_SECONDS = 120
QUEUE, PARKING, EXCHANGE = main.name, main.parking, main.exchange


def consumer(amqp_url: str, pg_url: str, *words: str) -> Service:
    """`kinfolk consume` of the product that takes notes."""
    return Service("consume", "--amqp-url", amqp_url, "--pg-url", pg_url, *words, program="tests.noting_product")


@asynccontextmanager
async def consuming_here(db: Database, amqp_url: str, lane: Lane) -> AsyncIterator[asyncio.Future[None]]:
    """A consumer in this process; who does not want to wait for its end may cancel it, and who fails does not wait."""
    ready, ending = asyncio.Event(), asyncio.Event()
    work = asyncio.ensure_future(kinfolk.kit.consumer.consumer(db, [lane], Amqp(amqp_url))(ready.set, ending))
    await ready.wait()
    try:
        yield work
    except BaseException:
        work.cancel()
        raise
    finally:
        ending.set()
        with suppress(asyncio.CancelledError):
            await work


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await holds():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aiormq.connect(url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


async def send(channel: AbstractChannel, words: str, queue: str = QUEUE, **properties: Any) -> None:
    """A right note; its id is made of the words, unless one is given."""
    await send_body(
        channel, msgspec.json.encode({"words": words}), queue, **({"message_id": f"id.{words}"} | properties)
    )


async def send_body(
    channel: AbstractChannel, body: bytes, queue: str = QUEUE, raw: bytes | None = None, **properties: Any
) -> None:
    """Any bytes, with a confirm; `raw` are properties as they go over the wire, which no library would write."""
    given = Basic.Properties(**({"content_type": "application/json", "delivery_mode": 2, "headers": {}} | properties))
    await channel.basic_publish(
        body,
        exchange=EXCHANGE,
        routing_key=queue,
        properties=given if raw is None else Raw(raw),
        mandatory=True,
    )


class Raw(Basic.Properties):
    def __init__(self, raw: bytes) -> None:
        super().__init__(message_id="not sent")
        self.raw = raw

    def marshal(self) -> bytes:
        return self.raw


async def noted(url: str) -> Counter[str]:
    """How many times each note was noted."""
    conn = await asyncpg.connect(url)
    try:
        return Counter(row[0] for row in await conn.fetch("SELECT words FROM notes"))
    finally:
        await conn.close()


async def are_noted(pg_url: str, count: int) -> None:
    async def holds() -> bool:
        return sum((await noted(pg_url)).values()) >= count

    await until(holds)


async def waiting(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.queue_declare(queue, passive=True)
    return declared.message_count or 0


async def are_waiting(channel: AbstractChannel, queue: str, count: int) -> None:
    async def holds() -> bool:
        return await waiting(channel, queue) == count

    await until(holds)


async def taken(channel: AbstractChannel, queue: str) -> DeliveredMessage:
    """The next message of a queue, once there is one; it is gone then."""
    while True:
        message = await channel.basic_get(queue, no_ack=True)
        if isinstance(message.delivery, Basic.GetOk):
            return message
        await asyncio.sleep(0.05)
