"""RabbitMQ as one process sees it: connections by name, the queues of a lane, publishing with a confirm.

The driver is aiormq. Two of its habits are mended here: a header that Python cannot hold (a moment in the year 150000,
a key that is no UTF-8) would end the connection of whoever receives the message, again and again; and a message whose
headers fill a frame would do so when it is sent on.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

import aiormq
import pamqp.frame
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import constants
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from kinfolk.kit import problems
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.lanes import Lane
from kinfolk.kit.log import note

Channel: TypeAlias = AbstractChannel
Delivered: TypeAlias = DeliveredMessage
Properties: TypeAlias = Basic.Properties

PATIENCE_SECONDS = 10.0
NEVER = 1_000_000_000
"""A limit nobody reaches: RabbitMQ 4 limits deliveries where nothing is said, and counts those that a lost connection
brings back unread, and each look at a parked message."""
ROOM_IN_A_FRAME = 4_096
"""Of the frame that must hold all headers, for what is not a header."""
_PLAIN_ID = re.compile(r"(?!(?:id|body)-|\.{1,2}\Z)[A-Za-z0-9._~:-]{1,128}")
AWAY: tuple[type[Exception], ...] = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, OSError)
"""What any talk with the broker may raise; a TimeoutError is an OSError."""

_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-")
_COPIES = frozenset({"CC", "BCC"})  # the broker would send copies to these once more

logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what matters stands in lines of ours


class BrokerAway(problems.Unavailable):
    """RabbitMQ does not answer just now."""


class NoBroker(problems.NotFound):
    """No RabbitMQ is configured."""


@dataclass(frozen=True)
class Amqp:
    """Where RabbitMQ is: `--amqp-url`, and `--amqp-vhosts` by their names."""

    url: str | None = None
    vhosts: Mapping[str, str] = field(default_factory=dict)
    delays_seconds: tuple[float, ...] | None = None
    """Instead of those of every lane."""

    @classmethod
    def of(cls, url: str | None, vhosts: str | None = None, delays: str | None = None) -> "Amqp":
        """As the settings write it. Raises WrongSetting, whose words quote no URL: it may hold a password."""
        named = {}
        for pair in filter(None, (vhosts or "").split(",")):
            name, _, its_url = pair.partition("=")
            named[name.strip()] = its_url.strip()
        for setting, each in [("--amqp-url", url), *(("--amqp-vhosts", its_url) for its_url in named.values())]:
            if each is not None and not _is_url(each):
                raise WrongSetting(f"{setting} must look like amqp://user:password@host:port/vhost")
        return cls(url, named, None if delays is None else _seconds(delays))

    def address(self, vhost: str | None) -> str:
        """The URL of a vhost: as it is configured, else the vhost of that name where `--amqp-url` is.

        Raises NoBroker.
        """
        if self.url is None:
            raise NoBroker("give --amqp-url amqp://user:password@host:port/vhost")
        if vhost is None:
            return self.url
        return self.vhosts.get(vhost) or urlunsplit(urlsplit(self.url)._replace(path="/" + quote(vhost, safe="")))

    def delays(self, lane: Lane) -> tuple[float, ...]:
        return lane.delays_seconds if self.delays_seconds is None else self.delays_seconds


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"amqp", "amqps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _seconds(delays: str) -> tuple[float, ...]:
    try:
        seconds = tuple(float(each) for each in delays.split(",") if each.strip())
    except ValueError:
        seconds = (-1.0,)
    if not all(0.001 <= each <= 86_400 for each in seconds):
        raise WrongSetting("--amqp-delays takes seconds from 0.001 to 86400, such as 5,30,300")
    return seconds


@asynccontextmanager
async def connected(url: str, patience_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[aiormq.Connection]:
    """A connection that nobody mends: what uses it begins anew. Raises one of AWAY.

    It takes `patience_seconds` at the most to open it, and as long to close it.
    """
    connection = aiormq.Connection(url)
    try:
        async with asyncio.timeout(patience_seconds):
            await connection.connect()
        yield connection
    finally:
        with suppress(*AWAY, asyncio.CancelledError):
            async with asyncio.timeout(patience_seconds):
                await connection.close()


async def is_reachable(url: str, patience_seconds: float) -> bool:
    """Whether RabbitMQ lets us in, in so many seconds."""
    try:
        async with connected(url, patience_seconds / 2):
            return True
    except Exception as error:  # whatever a server makes of the client that is no RabbitMQ, or a broken one
        note(rabbitmq=f"{type(error).__name__}: {error}")
        return False


async def declare(channel: Channel, lane: Lane, delays_seconds: tuple[float, ...]) -> None:
    """Make what the lane needs, unless it is there: quorum queues that lose nothing on the way from one to the next."""
    guarded = {"x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    await channel.exchange_declare(lane.exchange, exchange_type="direct", durable=True)
    await _declare_queue(channel, lane.parking, {"x-delivery-limit": NEVER})
    for seconds in delays_seconds:
        of_delay = {"x-message-ttl": round(seconds * 1_000), "x-dead-letter-routing-key": lane.name}
        await _declare_queue(channel, lane.delay_queue(seconds), guarded | of_delay)
    of_work = {"x-dead-letter-routing-key": lane.parking, "x-delivery-limit": NEVER}
    await _declare_queue(channel, lane.name, guarded | of_work)
    await channel.queue_bind(lane.name, lane.exchange, routing_key=lane.name)


async def _declare_queue(channel: Channel, name: str, arguments: dict[str, Any]) -> None:
    await channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"} | arguments)


async def publish(channel: Channel, body: bytes, properties: Properties, routing_key: str, exchange: str = "") -> None:
    """Publish, and wait until the broker has it safely in a queue. Raises one of AWAY."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await channel.basic_publish(
            body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=True
        )


async def next_of(channel: Channel, queue: str) -> Delivered | None:
    """The message at the head of the queue, to be acknowledged; None where there is none."""
    message = await channel.basic_get(queue)
    return message if isinstance(message.delivery, Basic.GetOk) else None


def sent_on(properties: Properties, headers: Mapping[str, Any]) -> Properties:
    """The properties of a message that goes to another queue of its lane: all as they came, but for the headers given.

    Not the time to live, which would let it vanish where it waits; nor the user, whom the broker checks; nor what the
    broker says of earlier queues: it would take a forged `x-death` for a cycle, and lose the message.
    """
    names = [name for name in Properties.attributes() if name not in {"headers", "expiration", "user_id"}]
    kept = {name: value for name in names if (value := getattr(properties, name)) is not None}
    return Properties(headers=dict(headers), **({"delivery_mode": 2} | kept))


def own_headers(properties: Properties) -> dict[str, Any]:
    """The headers that the sender gave, without those that steer the broker."""
    return {
        name: value
        for name, value in (properties.headers or {}).items()
        if name not in _COPIES and not name.startswith(_OF_THE_BROKER)
    }


def room_for(channel: Channel, properties: Properties) -> int:
    """How many bytes may be added to these headers, which travel in one frame; -1 where they cannot be written."""
    frame_max = channel.connection.connection_tune.frame_max
    try:
        return max(-1, int(frame_max) - ROOM_IN_A_FRAME - len(ContentHeader(properties=properties).marshal()))
    except (TypeError, ValueError, OverflowError):
        return -1


class Unreadable(Properties):
    """Stands for the properties of a message whose headers cannot be read."""


def _unmarshal_whatever_comes(data: bytes) -> tuple[int, int, Any]:
    try:
        return _unmarshal(data)
    except (PAMQPException, ValueError, OverflowError, OSError):
        frame_type, channel_id, size = pamqp.frame.frame_parts(data)
        if frame_type != constants.FRAME_HEADER or size is None:
            raise
    start = constants.FRAME_HEADER_SIZE
    _class, weight, body_size = _HEADER_BEGINS.unpack_from(data, start)
    return start + size + 1, channel_id, ContentHeader(weight, body_size, Unreadable())


_HEADER_BEGINS = Struct(">HHQ")
_unmarshal = pamqp.frame.unmarshal
pamqp.frame.unmarshal = _unmarshal_whatever_comes  # type: ignore[assignment]  # where aiormq looks for it


def shown_id(message_id: str) -> str:
    """A message's id, where an address can hold it; else a name made of it, which no log need keep from anybody."""
    plain = _PLAIN_ID.fullmatch(message_id)
    return message_id if plain else "id-" + hashlib.sha256(message_id.encode()).hexdigest()[:32]
