"""News: messages that this product sends, owed in the transaction of what they tell.

added = News("students.added", NewStudent, exchange="example.exchange")

await added.owe(conn, NewStudent(name))  # a job publishes it after the commit, until RabbitMQ has confirmed it
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec

from kinfolk.kit import log, telemetry
from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.rabbit import Amqp, Channel, Properties, connected, publish

RETRIES = (1.0, 5.0, 30.0, 300.0, 3_600.0, 21_600.0)


class News:
    """One kind of message that goes out, with its address."""

    def __init__(self, routing_key: str, shape: type[Any], *, exchange: str, vhost: str | None = None) -> None:
        """`exchange` is direct and durable; `vhost` is a name of `--amqp-vhosts`."""
        self.routing_key = routing_key
        self.shape = shape
        self.exchange = exchange
        self.vhost = vhost

    async def owe(self, conn: Connection, value: Any) -> int:
        """Owe the value, as JSON, in the transaction of `conn`; returns the number of the job that will publish it.

        Its message id is settled here, so that publishing it twice does no harm to whoever remembers ids.
        """
        return await publish_news.later(
            conn,
            vhost=self.vhost,
            exchange=self.exchange,
            routing_key=self.routing_key,
            body=msgspec.json.encode(value).decode(),
            message_id=str(uuid4()),
            request_id=log.request_id(),
        )


@job(name="messages.publish", retries=RETRIES, limit_seconds=60)
async def publish_news(
    _conn: Connection,
    *,
    vhost: str | None,
    exchange: str,
    routing_key: str,
    body: str,
    message_id: str,
    request_id: str | None,
) -> None:
    """Publish, and wait until RabbitMQ has it safely in a queue; nobody listening is an accident."""
    named = {"x-request-id": request_id, "traceparent": telemetry.traceparent()}
    properties = Properties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        headers={name: value for name, value in named.items() if value is not None},
    )
    channel = await _publishers[-1].channel(vhost, exchange)
    await publish(channel, body.encode(), properties, routing_key, exchange)


class _Publisher:
    """The connections of this process for what goes out, one a vhost, made when first needed and when lost."""

    def __init__(self, amqp: Amqp) -> None:
        self._amqp = amqp
        self._open: dict[str | None, tuple[AbstractAsyncContextManager[Any], Channel, set[str]]] = {}
        self._turn = asyncio.Lock()

    async def channel(self, vhost: str | None, exchange: str) -> Channel:
        """A channel on which that exchange is known to be there. Raises NoBroker, and one of AWAY."""
        async with self._turn:
            if vhost in self._open and self._open[vhost][1].is_closed:
                await self._close(vhost)
            if vhost not in self._open:
                link = connected(self._amqp.address(vhost))
                connection = await link.__aenter__()
                self._open[vhost] = link, await connection.channel(), set()
            _, channel, exchanges = self._open[vhost]
            if exchange not in exchanges:
                await channel.exchange_declare(exchange, exchange_type="direct", durable=True)
                exchanges.add(exchange)
            return channel

    async def close(self) -> None:
        async with self._turn:
            for vhost in list(self._open):
                await self._close(vhost)

    async def _close(self, vhost: str | None) -> None:
        link, _, _ = self._open.pop(vhost)
        await link.__aexit__(None, None, None)


_publishers = [_Publisher(Amqp())]


def use(amqp: Amqp) -> None:
    """Where this process publishes from now on."""
    _publishers[:] = [_Publisher(amqp)]


@asynccontextmanager
async def connections() -> AsyncIterator[None]:
    """At the end, close what publishing has left open."""
    try:
        yield
    finally:
        await _publishers[-1].close()
