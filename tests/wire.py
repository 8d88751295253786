"""A client that says exactly the bytes it is given, and reads answers as they are on the wire."""

import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        return document


class Wire:
    """One connection."""

    def __init__(self, url: str, seconds: float = 20.0) -> None:
        place = urlsplit(url)
        assert place.hostname
        assert place.port
        self.socket = socket.create_connection((place.hostname, place.port), seconds)
        self._read = self.socket.makefile("rb")

    def say(self, words: str | bytes) -> "Wire":
        self.socket.sendall(words.encode() if isinstance(words, str) else words)
        return self

    def hear(self, *, is_head: bool = False) -> Reply:
        """The next answer; fails when the connection ends before it is whole."""
        line = self._read.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (header := self._read.readline().strip()) != b"":
            name, _, value = header.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        length = 0 if is_head else int(headers.get("content-length", "0"))
        body = self._read.read(length)
        assert len(body) == length
        return Reply(int(line.split()[1]), headers, body)

    def is_over(self) -> bool:
        """Whether the server hangs up now, with nothing more to say."""
        return self._read.read(1) == b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_error: object) -> None:
        self._read.close()
        self.socket.close()


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """A request of HTTP/1.1; its length is told unless the headers say how it comes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body and not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)
