"""A real HTTP server on a free port of loopback that behaves as the test says, one step a request."""

import json
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Read the whole request, then answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True)
class HangUp:
    """Read so many bytes of the body, then cut the connection; without a number, after the whole body."""

    after_bytes: int | None = None


@dataclass(frozen=True)
class Stall:
    """Read the whole request and say nothing."""


@dataclass(frozen=True)
class Heard:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedService:
    url: str
    heard: list[Heard] = field(default_factory=list)
    has_heard: threading.Event = field(default_factory=threading.Event)


def accepted(import_id: int) -> Answer:
    return Answer(201, json.dumps({"data": {"import_id": import_id}}).encode())


def problem(status: int, **members: Any) -> Answer:
    return Answer(status, json.dumps({"status": status, **members}).encode(), "application/problem+json")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: "ScriptedServer"

    def do_POST(self) -> None:
        step = next(self.server.script)
        try:
            self.take(step)
        except ConnectionError:
            self.close_connection = True

    def take(self, step: Answer | HangUp | Stall) -> None:
        body = self.read_body(step.after_bytes if isinstance(step, HangUp) else None)
        self.server.service.heard.append(Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.server.service.has_heard.set()
        match step:
            case Answer(status, answer, content_type):
                self.send_response(status)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            case HangUp():
                # A linger of zero makes the close a reset, as when a process is killed.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case Stall():
                self.server.is_over.wait(10)
                self.close_connection = True

    do_GET = do_POST  # noqa: N815  # its name in the library

    def read_body(self, at_most: int | None) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        size = int(self.headers.get("content-length", 0))
        wanted = size if at_most is None else min(size, at_most)
        if len(body := self.rfile.read(wanted)) < wanted:
            raise ConnectionAbortedError
        return body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the library
        """Say nothing."""


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, steps: Iterable[Answer | HangUp | Stall]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = iter(steps)
        self.is_over = threading.Event()
        self.service = ScriptedService(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def scripted_service(*steps: Answer | HangUp | Stall) -> Iterator[ScriptedService]:
    server = ScriptedServer(steps)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.service
    finally:
        server.is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """A port at which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
