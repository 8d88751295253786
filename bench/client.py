"""A client that costs a few microseconds a request, so that what is measured is the server."""

import re
import select
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

PATIENCE_SECONDS = 60
PIECE_BYTES = 1_048_576
IDLE_SECONDS = 3
"""Servers end what is idle for longer: uvicorn after 5 seconds."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_TAG = re.compile(rb'\r\netag: *((?:W/)?"[^"\r\n]*")', re.IGNORECASE)


class Reply(NamedTuple):
    """`head` is all before the empty line; `body` is whole (in chunks as sent), empty unless it was to be kept."""

    status: int
    head: bytes
    body: bytes

    @property
    def tag(self) -> str | None:
        found = _TAG.search(self.head)
        return found[1].decode() if found else None


class Connection:
    """One kept-alive connection to an `http://` address."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._place = (parts.hostname or "", parts.port or 80)
        self._prefix = parts.path.rstrip("/")
        self._buffer = memoryview(bytearray(PIECE_BYTES))
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        self._used = time.monotonic()
        connected = socket.create_connection(self._place, PATIENCE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def send(self, request: bytes) -> None:
        now = time.monotonic()
        if now - self._used > IDLE_SECONDS:
            self.socket.close()
            self.socket = self._connect()
        self._used = now
        self.socket.sendall(request)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """A request as it goes over the wire; a header's `_` stands for `-`."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"host: {self._host}", "accept: */*"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def ask(self, request: bytes, expected: int, *, is_kept: bool = False) -> Reply:
        """Send and wait for the whole answer; ends the bench when its status is not the expected one."""
        self.send(request)
        return self.receive(expected, is_kept=is_kept)

    def receive(self, expected: int, *, is_kept: bool = False) -> Reply:
        received = bytes(self._more())
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += bytes(self._more())
        head, body = received[:end], received[end + 4 :]
        status = int(head[9:12])
        if status != expected:
            raise SystemExit(f"{status} instead of {expected}: {received[:2_000]!r}")
        return Reply(status, head, self._body(status, head, body, is_kept=is_kept))

    def _body(self, status: int, head: bytes, body: bytes, *, is_kept: bool) -> bytes:
        if status in (204, 304):
            return b""
        kept, tail = [body], body[-5:]
        if length := _LENGTH.search(head):
            missing = int(length[1]) - len(body)
            while missing > 0:
                piece = self._more()
                missing -= len(piece)
                if is_kept:
                    kept.append(bytes(piece))
        elif _CHUNKED.search(head):
            while tail != b"0\r\n\r\n":
                kept.append(bytes(self._more()))
                tail = (tail + kept[-1])[-5:]
        return b"".join(kept) if is_kept else b""

    def _more(self) -> memoryview:
        count = self.socket.recv_into(self._buffer)
        if not count:
            raise SystemExit("the server closed the connection")
        return self._buffer[:count]

    def close(self) -> None:
        self.socket.close()


def ask_together(connections: Sequence[Connection], requests: Sequence[Sequence[bytes]], expected: int) -> None:
    """Each connection asks its own requests one after another, all connections at once; the answers are small."""
    asking = {}
    with select.epoll() as ready:
        for connection, own in zip(connections, requests, strict=True):
            waiting = iter(own)
            connection.send(next(waiting))
            asking[connection.socket.fileno()] = (connection, waiting)
            ready.register(connection.socket, select.EPOLLIN)
        while asking:
            for descriptor, _ in ready.poll(PATIENCE_SECONDS):
                connection, waiting = asking[descriptor]
                connection.receive(expected)
                request = next(waiting, None)
                if request is None:
                    ready.unregister(descriptor)
                    del asking[descriptor]
                else:
                    connection.send(request)
