"""uvicorn's reading of a connection, with what it lacks: a bound on a request's head, refusals in our own form, and
the switch to a WebSocket by the application's answer."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer
from kinfolk.kit.http.handshake import SWITCHED, is_asked
from kinfolk.kit.http.websocket import Socket

LARGEST_HEAD_BYTES = 65_536
PATIENCE_SECONDS = 2.0


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

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.unfinished_bytes += len(data)
        super().data_received(data)
        if self.unfinished_bytes > LARGEST_HEAD_BYTES and not self.is_refused:
            self.refuse(HeadTooLarge(limit_bytes=LARGEST_HEAD_BYTES))

    def on_headers_complete(self) -> None:
        self.unfinished_bytes = 0
        super().on_headers_complete()
        self.headers = []  # the parser puts trailers there, which are no headers (RFC 9110, 6.5.1)

    def on_body(self, body: bytes) -> None:
        self.unfinished_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's name
        self.refuse(UnreadableRequest())

    def refuse(self, problem: problems.Problem) -> None:
        """Answer and hang up, but not at once: a client that is still sending would lose the answer."""
        self.is_refused = True
        answer = Answer.refusing(problem)
        headers = [name + b": " + value + b"\r\n" for name, value in (*answer.headers, (b"connection", b"close"))]
        self.transport.write(b"".join([STATUS_LINE[answer.status], *headers, b"\r\n", answer.body]))
        self.transport.write_eof()
        self.loop.call_later(PATIENCE_SECONDS, self.transport.close)

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's own switch is off: ours is an answer, and whoever else asks is answered as if he had not."""

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
