"""One WebSocket (RFC 6455): frames by the websockets library, bounds by us. What it is for, `audience.py` says.

Whoever talks fast is read slowly, whoever reads slowly is dropped, and no other socket notices either.
"""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import msgspec
from websockets import protocol
from websockets.frames import Close, Frame, Opcode

from kinfolk.kit import log
from kinfolk.kit.auth import Who
from kinfolk.kit.documents import MalformedJson, read_json
from kinfolk.kit.problems import InvalidDocument

LARGEST_MESSAGE_BYTES = 16_384
MOST_UNSENT_BYTES = 262_144
SLICE_BYTES = 4_096
"""Of small frames it holds some 700, which take 4 ms to read."""
MOST_FRAMES_A_SECOND = 100
SECONDS_TO_CLOSE = 3.0
SILENCE_SECONDS = 20.0
"""A socket that was not heard for so long is pinged, and after as long again given up."""

GOING_AWAY = 1001
NO_BINARY = 1003
UNREADABLE = 1007
NOT_TAKEN = 1008
OUR_FAULT = 1011
TRY_LATER = 1013
LOST = 1006  # never sent: RFC 6455, 7.1.5
TOKEN_DEAD = 4401
TOO_SLOW = 4408
TOO_MANY = 4429

PING = Frame(Opcode.PING, b"").serialize(mask=False)
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001  # which no --log-config can make write frames


class Saying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be said: it is echoed."""

    say: str


def text_frame(text: bytes) -> bytes:
    """The same bytes for every socket: a server masks nothing, and nothing is packed (memory, and BREACH)."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


class Listeners(Protocol):
    """Those whom a socket belongs to."""

    def join(self, socket: "Socket") -> None: ...

    def leave(self, socket: "Socket", code: int) -> None: ...


class Socket(asyncio.Protocol):
    """One that listens. It takes over the transport of the request that asked for it."""

    def __init__(self, audience: Listeners, who: Who, token: str, request_id: str) -> None:
        self.who = who
        self.token = token
        self.confirmed = perf_counter()
        """When the token was last known to be right."""
        self._audience = audience
        self._request_id = request_id
        self._frames = protocol.Protocol(protocol.Side.SERVER, max_size=LARGEST_MESSAGE_BYTES, logger=_SILENT)
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._forget: Callable[[], None] = lambda: None
        self._begun = perf_counter()
        self._heard = self._begun
        self._pinged: float | None = None
        self._unread = bytearray()
        self._is_paused = False
        self._message = bytearray()
        self._is_binary = False
        self._frames_left = MOST_FRAMES_A_SECOND
        self._second_begun = self._begun
        self._turn: asyncio.Handle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._sent = self._received = self._dropped = 0

    def take_over(self, transport: Any, connections: set[Any]) -> None:
        """From now on the transport is this socket's; `connections` are those that the server tells when it ends."""
        self._transport = transport
        connections.add(self)
        self._forget = lambda: connections.discard(self)
        transport.set_protocol(self)
        self._audience.join(self)

    @property
    def is_open(self) -> bool:
        return self._frames.state is protocol.OPEN and not self._transport.is_closing()

    # What others do to it

    def give(self, frames: bytes, count: int) -> None:
        """Send so many frames; where too much of what was sent before waits, the socket is dropped instead."""
        if not self.is_open:
            return
        if self._transport.get_write_buffer_size() + len(frames) > MOST_UNSENT_BYTES:
            self._dropped += count
            self.close(TOO_SLOW, "you read too slowly")
            return
        self._transport.write(frames)
        self._sent += count

    def close(self, code: int, reason: str) -> None:
        """Say why, and hang up when the other side has heard it, or after a while."""
        if self._frames.state is protocol.OPEN:
            self._frames.send_close(code, reason)
            self._send()

    def shutdown(self) -> None:
        """As uvicorn calls it when the server ends."""
        self.close(GOING_AWAY, "the server ends")

    def look(self) -> None:
        """Is anybody there?"""
        now = perf_counter()
        if not self.is_open:
            return
        if self._pinged is not None:
            if now - self._pinged > SILENCE_SECONDS:
                self._transport.abort()
        elif now - self._heard > SILENCE_SECONDS:
            self._pinged = now
            self._transport.write(PING)

    # What asyncio does to it

    def data_received(self, data: bytes) -> None:
        self._heard = perf_counter()
        self._pinged = None
        if self._frames.eof_sent:
            return  # all is said
        self._unread += data
        if self._turn is None:  # pragma: no branch  # reading is paused while a turn is owed
            self._read_on()

    def eof_received(self) -> None:
        self._frames.receive_eof()
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        for owed in (self._turn, self._end):
            if owed is not None:
                owed.cancel()
        self._forget()
        close: Close | None = self._frames.close_sent or self._frames.close_rcvd
        code = LOST if close is None else int(close.code)
        log.write_line(
            {
                "event": "socket",
                "id": self._request_id,
                "by": self.who.by,
                "code": code,
                "seconds": perf_counter() - self._begun,
                "sent": self._sent,
                "received": self._received,
                "dropped": self._dropped,
            }
        )
        self._audience.leave(self, code)

    # What the other side says

    def _read_on(self) -> None:
        """Read a slice; the next in another turn of the event loop, or next second where that were too many frames."""
        now = perf_counter()
        if now - self._second_begun >= 1:
            self._second_begun, self._frames_left = now, MOST_FRAMES_A_SECOND
        self._turn = None
        piece = bytes(self._unread[:SLICE_BYTES])
        del self._unread[:SLICE_BYTES]
        self._frames.receive_data(piece)
        for frame in self._frames.events_received():
            assert isinstance(frame, Frame), "the handshake is over"
            self._frames_left -= 1
            self._take(frame)
        self._send()
        if self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self.close(TOO_SLOW, "you do not read what you are answered")
        if self._frames_left < 0:
            self._pause_reading(self._second_begun + 1 - now)
        elif self._unread:
            self._pause_reading(0)
        elif self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def _pause_reading(self, seconds: float) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._turn = self._loop.call_later(seconds, self._read_on)

    def _take(self, frame: Frame) -> None:
        """A message may come in many frames; how long it may be, the library sees to."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_binary = frame.opcode is Opcode.BINARY
            self._message.clear()
        elif frame.opcode is not Opcode.CONT:
            return
        self._message += frame.data
        if frame.fin:
            self._received += 1
            self._answer()

    def _answer(self) -> None:
        if self._frames.state is not protocol.OPEN:
            return
        if self._is_binary:
            self.close(NO_BINARY, "text is taken, and nothing else")
            return
        try:
            saying = read_json(bytes(self._message), Saying)
        except MalformedJson:
            self.close(UNREADABLE, "this is not JSON")
        except InvalidDocument:
            self.close(NOT_TAKEN, 'what is taken is {"say": "…"}')
        else:
            self._frames.send_text(msgspec.json.encode({"echo": saying.say}))

    def _send(self) -> None:
        if self._transport.is_closing():
            return  # lost already, and uvloop raises where asyncio is silent
        for data in self._frames.data_to_send():
            if data:
                self._transport.write(data)
            else:
                # Not closed at once: what the other side still sends would be answered by a reset, and take with it
                # what it has not yet read.
                self._transport.write_eof()
        if self._frames.state is not protocol.OPEN and self._end is None:
            self._end = self._loop.call_later(SECONDS_TO_CLOSE, self._transport.abort)
