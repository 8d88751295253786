"""uvicorn's reading of a connection, with what it lacks: bounds on a request's head, refusals in our own form and in
their turn, bodies of those who would rather speak HTTP/2, and the switch to a WebSocket by the application's answer."""

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import httptools
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer
from kinfolk.kit.http.handshake import SWITCHED, is_asked
from kinfolk.kit.http.websocket import Socket

LARGEST_HEAD_BYTES = 65_536
PATIENCE_SECONDS = 2.0
_FRAMING = (b"content-length", b"transfer-encoding")


class UnreadableRequest(problems.BadInput):
    """This is not a request of HTTP/1.1."""


class HeadTooLarge(problems.Problem):
    """The address and the headers of the request are too long together."""

    status = 431


class Protocol(HttpToolsProtocol):
    """One connection. What cannot be read as HTTP never reaches the application: it is refused here."""

    unfinished_bytes = 0
    """How much came without finishing a head or being part of a body."""
    is_refused = False
    _refusal: problems.Problem | None = None
    """What is said once all is answered that was asked before."""
    _arrived = b""
    _framing: tuple[bytes, bytes] | None = None
    """The header that says how long the body is which the parser takes for another protocol's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_soon()

    def _expect_soon(self) -> None:
        """Hang up on whoever falls silent before a head is whole."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.unfinished_bytes += len(data)
        self._arrived = data
        super().data_received(data)
        if self.is_refused or not self.unfinished_bytes:
            return
        if self.unfinished_bytes > LARGEST_HEAD_BYTES:
            self.refuse(HeadTooLarge(limit_bytes=LARGEST_HEAD_BYTES))
        elif self._is_idle:
            self._expect_soon()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_headers_complete(self) -> None:
        self.unfinished_bytes = 0
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        super().on_headers_complete()
        if self.parser.should_upgrade() and not is_asked(self.scope):
            self._framing = next((header for header in self.headers if header[0] in _FRAMING), None)
        self.headers = []  # the parser puts trailers there, which are no headers (RFC 9110, 6.5.1)

    def on_message_complete(self) -> None:
        if self._framing is None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        self.unfinished_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's name
        self.refuse(UnreadableRequest())

    def refuse(self, problem: problems.Problem) -> None:
        """Read no more; answer and hang up, once all is answered that was asked before."""
        self.is_refused = True
        if self._is_idle:
            self._hang_up(problem)
            return
        newest = self.cycle
        is_queued = bool(self.pipeline) and self.pipeline[0][0] is newest
        if newest.more_body and not is_queued:  # what cannot be read is its body, so this is its answer
            newest.disconnected = True
            newest.message_event.set()
            self._hang_up(None if newest.response_started else problem)
            return
        if newest.more_body:
            self.pipeline.popleft()
        self._refusal = problem

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal is not None and not self.transport.is_closing():
            self._hang_up(self._refusal)

    def _hang_up(self, problem: problems.Problem | None) -> None:
        """But not at once: a client that is still sending would lose the answer."""
        if problem is not None:
            answer = Answer.refusing(problem)
            headers = [name + b": " + value + b"\r\n" for name, value in (*answer.headers, (b"connection", b"close"))]
            self.transport.write(b"".join([STATUS_LINE[answer.status], *headers, b"\r\n", answer.body]))
        self.transport.write_eof()
        self.loop.call_later(PATIENCE_SECONDS, self.transport.close)

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's own switch is off: ours is an answer, and whoever else asks is answered as if he had not.

        So what follows is his body, or the next request. Java's client asks for HTTP/2 with each first request.
        """
        paused = sys.exc_info()[1]
        assert isinstance(paused, httptools.HttpParserUpgrade), "uvicorn calls this where it caught that"
        rest = self._arrived[paused.args[0] :]
        if self._framing is not None:
            self.cycle.keep_alive = False
            end = super().on_message_complete
            self.parser = httptools.HttpRequestParser(SimpleNamespace(on_body=self.on_body, on_message_complete=end))
            rest = b"POST / HTTP/1.1\r\n%s: %s\r\n\r\n" % self._framing + rest
        if self.scope["method"] != "CONNECT" and not is_asked(self.scope):
            self._arrived = rest
            super().data_received(rest)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if is_asked(cycle.scope):
            cycle.scope["extensions"] = {SWITCHED: {}}
            app = self._switching(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _switching(self, cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
        async def switching(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_or_switch(message: Message) -> None:
                if SWITCHED in message:
                    self._switch(cycle, message)
                elif not cycle.response_complete:
                    await send(message)

            await app(scope, receive, send_or_switch)

        return switching

    def _switch(self, cycle: RequestResponseCycle, message: Any) -> None:
        """Nothing of this waits: whatever comes on the connection after the answer is the socket's."""
        socket: Socket = message[SWITCHED]
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        head = [name + b": " + value + b"\r\n" for name, value in message["headers"]]
        self.transport.write(b"".join([STATUS_LINE[101], *head, b"\r\n"]))
        self.flow.resume_reading()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # it and this hold each other
        socket.take_over(self.transport, self.connections)
