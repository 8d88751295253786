"""uvicorn's reading of a connection, with what it lacks: a bound on a request's head, and refusals in our own form."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer

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
