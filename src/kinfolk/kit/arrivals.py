"""One message that arrived: what it goes by, and where it goes when its operation fails."""

import hashlib
import re
from datetime import UTC, datetime
from random import getrandbits
from time import perf_counter
from typing import Any

import msgspec

from kinfolk.kit import problems, telemetry
from kinfolk.kit.rabbit import Channel, Delivered, Properties, Unreadable, own_headers, room_for, sent_on
from kinfolk.kit.shapes import UNSTORABLE

LONGEST_REASON = 2_000
LONGEST_PROBLEM_BYTES = 65_536
MOST_ATTEMPTS = 1_000

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class UnreadableMessage(problems.BadInput):
    """The properties of the message cannot be read."""


class Arrival:
    """A message, from its delivery until RabbitMQ is told what became of it."""

    __slots__ = (
        "attempt",
        "begun",
        "body",
        "facts",
        "is_repeat",
        "message_id",
        "properties",
        "request_id",
        "returns",
        "span",
        "tag",
        "value",
    )

    def __init__(self, delivered: Delivered, lane: str) -> None:
        self.begun = perf_counter()
        self.body: bytes = delivered.body
        self.tag: int = delivered.delivery.delivery_tag  # type: ignore[union-attr,assignment]  # a delivery has one
        self.properties: Properties = delivered.header.properties
        headers = self.properties.headers or {}
        returns = headers.get("x-delivery-count") if delivered.delivery.redelivered else None  # type: ignore[union-attr]
        self.returns = returns if type(returns) is int else 0
        """How often it was given to a consumer that did not say what became of it."""
        earlier = headers.get("x-attempt")
        self.attempt = 1 + (earlier if type(earlier) is int and 0 <= earlier < MOST_ATTEMPTS else 0)
        self.message_id: str | None = self.properties.message_id or None
        self.request_id = _request_id(headers, self.message_id)
        trace = headers.get("traceparent")
        self.span = telemetry.begin(lane, "consumer", trace if isinstance(trace, str) else None, self.request_id)
        self.value: Any = None
        self.is_repeat = False
        self.facts: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        """What it is known by when it comes again, also without an id."""
        return hashlib.sha256((self.message_id or "").encode() + b"\0" + self.body).hexdigest()

    def check(self) -> None:
        """Raises UnreadableMessage."""
        if isinstance(self.properties, Unreadable):
            raise UnreadableMessage
        if self.message_id is not None and UNSTORABLE.search(self.message_id):
            raise UnreadableMessage("the message id holds what cannot be stored")

    def delayed(self, channel: Channel) -> Properties | None:
        """The properties with which it waits for its next attempt; None where ours do not fit beside its own."""
        properties = sent_on(self.properties, own_headers(self.properties) | {"x-attempt": self.attempt})
        return properties if room_for(channel, properties) >= 0 else None

    def parked(self, channel: Channel, lane: str, error: Exception) -> Properties | None:
        """The properties with which it waits for people; None where ours do not fit beside its own."""
        if isinstance(self.properties, Unreadable):
            return None
        ours = {
            "x-error": reason(error),
            "x-attempt": self.attempt,
            "x-parked-at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "x-origin": lane,
        }
        headers = own_headers(self.properties) | ours
        headers.pop("x-problem", None)
        properties = sent_on(self.properties, headers)
        room = room_for(channel, properties)
        if room < 0:
            return None
        most_bytes = min(room, LONGEST_PROBLEM_BYTES)
        if isinstance(error, problems.Problem) and (written := written_problem(error, most_bytes)):
            properties.headers = headers | {"x-problem": written}
        return properties


def reason(error: Exception) -> str:
    """Why it failed, in a line: a header must be short, and UTF-8."""
    words = str(error) if isinstance(error, problems.Problem) else f"{type(error).__name__}: {error}"
    return UNSTORABLE.sub("\ufffd", words)[:LONGEST_REASON]


def written_problem(problem: problems.Problem, most_bytes: int) -> str:
    """The problem as JSON, with as many of its bad places as there is room for; "" where there is none."""
    document = problem.body()
    written = msgspec.json.encode(document)
    while len(written) > most_bytes:
        places = document.get("errors")
        if not places:
            return ""
        document["errors"] = places[: len(places) * most_bytes // (len(written) + 1)]
        written = msgspec.json.encode(document)
    return written.decode()


def _request_id(headers: dict[str, Any], message_id: str | None) -> str:
    """What the sender calls it (`x-request-id`, the trace of a `traceparent`), else the message's id, or a new one."""
    named = headers.get("x-request-id")
    if isinstance(named, str) and _REQUEST_ID.fullmatch(named):
        return named
    trace = headers.get("traceparent")
    if isinstance(trace, str) and (match := _TRACEPARENT.fullmatch(trace)):
        return match[1]
    if message_id is not None and _REQUEST_ID.fullmatch(message_id):
        return message_id
    return f"{getrandbits(64):016x}"
