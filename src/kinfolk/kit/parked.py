"""Parked messages: what waits for people, to be looked at, sent back or dropped."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from kinfolk.kit import audit, problems
from kinfolk.kit.db import Connection
from kinfolk.kit.lanes import Lane
from kinfolk.kit.log import note
from kinfolk.kit.rabbit import (
    AWAY,
    Amqp,
    BrokerAway,
    Channel,
    Delivered,
    Unreadable,
    connected,
    declare,
    next_of,
    own_headers,
    publish,
    sent_on,
    shown_id,
)
from kinfolk.kit.statements import ONE_AT_A_TIME

MOST_SHOWN = 1_000
BODY_SHOWN_BYTES = 65_536
GIVEN_BACK_SECONDS = 5.0

_OF_PARKING = ("x-error", "x-problem", "x-attempt", "x-parked-at", "x-origin")
_WORDS_OF_THE_BROKER = {
    "rejected": "its headers leave no room for the reason: it stands in the log",
    "expired": "its time to live was over before anybody took it",
}


class NoSuchLane(problems.NotFound):
    """There is no lane of this name."""


class NoSuchParkedMessage(problems.NotFound):
    """There is no such parked message."""


class CannotBeSentBack(problems.Unprocessable):
    """The headers of this message cannot be read, so it cannot be sent back."""


class ParkedMessage(msgspec.Struct, frozen=True, rename={"message_id": "id"}):
    """A message that waits for people."""

    lane: str
    message_id: str
    """The message's own id; where it has none, or one that no address can hold, a name made of it or of its body."""
    reason: str
    attempts: int
    parked_at: str | None
    content_type: str | None
    body: str
    """As text, and the beginning of it where it is long."""
    body_bytes: int
    problem: dict[str, Any] | None
    """What was wrong with it, as a POST would have been told."""


class Parking:
    """The parking places of all lanes."""

    def __init__(self, lanes: Sequence[Lane], amqp: Amqp) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._amqp = amqp

    async def list_parked(self, conn: Connection, lane_name: str | None, limit: int) -> list[ParkedMessage]:
        """The messages that wait longest, of one lane or of all by name.

        Raises NoSuchLane, NoBroker and BrokerAway, as the others do.
        """
        found: list[ParkedMessage] = []
        for name in sorted(self._lanes) if lane_name is None else [lane_name]:
            if len(found) < limit:
                async with self._taken(conn, name) as taken:
                    found += [_shown(name, message) async for message in taken.messages(limit - len(found))]
        return found

    async def replay(self, conn: Connection, lane_name: str, message_id: str | None) -> int:
        """Send those back to work that are parked now, or those of one id; returns how many.

        Each is published and confirmed before it is taken away: a crash may double one, which its id makes harmless.
        Raises NoSuchParkedMessage and CannotBeSentBack.
        """
        replayed = 0
        async with self._taken(conn, lane_name) as taken:
            async for message in taken.messages():
                if message_id not in {None, _id(message)}:
                    continue
                properties = message.header.properties
                if isinstance(properties, Unreadable):
                    if message_id is None:
                        continue
                    raise CannotBeSentBack(id=message_id)
                headers = own_headers(properties)
                kept = {name: value for name, value in headers.items() if name not in _OF_PARKING}
                await publish(taken.channel, message.body, sent_on(properties, kept), lane_name)
                await taken.remove(message)
                replayed += 1
        if message_id is not None and not replayed:
            raise NoSuchParkedMessage(lane=lane_name, id=message_id)
        if replayed:
            await audit.note(conn, "messages.replayed", lane=lane_name, messages=replayed)
        note(lane=lane_name, replayed=replayed)
        return replayed

    async def drop(self, conn: Connection, lane_name: str, message_id: str) -> None:
        """Forget a parked message, or all those of this id. Raises NoSuchParkedMessage."""
        dropped = 0
        async with self._taken(conn, lane_name) as taken:
            async for message in taken.messages():
                if _id(message) == message_id:
                    await taken.remove(message)
                    dropped += 1
        if not dropped:
            raise NoSuchParkedMessage(lane=lane_name, id=message_id)
        await audit.note(conn, "messages.dropped", lane=lane_name, messages=dropped)
        note(lane=lane_name, dropped=dropped)

    @asynccontextmanager
    async def _taken(self, conn: Connection, lane_name: str) -> AsyncIterator["_Taken"]:
        """The messages that are parked now; those that are not removed are back in their place in the end."""
        lane = self._lanes.get(lane_name)
        if lane is None:
            raise NoSuchLane(lane=lane_name[:255])
        address = self._amqp.address(lane.vhost)
        await ONE_AT_A_TIME.execute(conn, queue=f"{lane.vhost} {lane.parking}")
        try:
            async with connected(address) as connection:
                channel = await connection.channel()
                await declare(channel, lane, self._amqp.delays(lane))
                taken = _Taken(channel, lane.parking)
                yield taken
                await taken.give_back()
        except AWAY as error:
            note(broker=f"{type(error).__name__}: {error}")
            raise BrokerAway from error


class _Taken:
    """The messages of a parking place, held by one who looks at them."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self.channel = channel
        self._queue = queue
        self._there = 0

    async def messages(self, limit: int | None = None) -> AsyncIterator[Delivered]:
        """One after another, in their order."""
        self._there = await self._count()  # not one that is parked again meanwhile
        for _ in range(self._there if limit is None else min(limit, self._there)):
            message = await next_of(self.channel, self._queue)
            if message is None:  # pragma: no cover  # the count is that of a moment ago
                return
            yield message

    async def remove(self, message: Delivered) -> None:
        tag: int = message.delivery.delivery_tag  # type: ignore[union-attr,assignment]  # what was got has one
        await self.channel.basic_ack(tag)
        self._there -= 1

    async def give_back(self) -> None:
        """Wait until all others are back: the broker takes its time, and the next to look would find nothing."""
        await self.channel.basic_nack(0, multiple=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_BACK_SECONDS):
                while await self._count() < self._there:  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.01)

    async def _count(self) -> int:
        declared = await self.channel.queue_declare(self._queue, passive=True)
        return declared.message_count or 0


def _id(message: Delivered) -> str:
    own = message.header.properties.message_id
    if not own:
        return "body-" + hashlib.sha256(message.body).hexdigest()[:32]
    return shown_id(own)


def _shown(lane: str, message: Delivered) -> ParkedMessage:
    properties = message.header.properties
    headers = properties.headers or {}
    attempts = headers.get("x-attempt")
    parked_at = headers.get("x-parked-at")
    return ParkedMessage(
        lane=lane,
        message_id=_id(message),
        reason=_reason(properties),
        attempts=attempts if type(attempts) is int else 0,
        parked_at=parked_at if isinstance(parked_at, str) else None,
        content_type=properties.content_type,
        body=message.body[:BODY_SHOWN_BYTES].decode("utf-8", "replace"),
        body_bytes=len(message.body),
        problem=_problem(headers),
    )


def _reason(properties: Any) -> str:
    """Ours, else what the broker says of a message that it parked itself."""
    if isinstance(properties, Unreadable):
        return "its properties cannot be read"
    headers = properties.headers or {}
    if isinstance(error := headers.get("x-error"), str):
        return error
    why = str(headers.get("x-first-death-reason"))
    return _WORDS_OF_THE_BROKER.get(why, f"the broker parked it: {why}")


def _problem(headers: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(headers.get("x-problem", b""), type=dict[str, Any])
    except (msgspec.DecodeError, TypeError):
        return None
