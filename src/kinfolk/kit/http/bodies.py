"""Reading a request's body: bounded, unpacked, and never trusted to be whole."""

import asyncio
import re
import zlib
from typing import Any

from litestar import Request

from kinfolk.kit import problems

PIECE_BYTES = 1_048_576
MOST_MEMBERS = 1_000
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)


class BodyTooLarge(problems.TooLarge):
    """The body is larger than this address takes."""


class UnknownCoding(problems.UnsupportedMediaType):
    """The body is packed in a way that this service does not unpack."""


class BrokenBody(problems.BadInput):
    """The body does not unpack."""


class UnknownCharset(problems.BadInput):
    """JSON is UTF-8 (RFC 8259, section 8.1)."""


class ClientGone(Exception):  # noqa: N818  # not an error: nobody is left to answer
    """The client went away before its request was whole."""


async def read_body(request: Request[Any, Any, Any], limit_bytes: int) -> bytes:
    """The whole body after gunzip, at most `limit_bytes` of it.

    Raises BodyTooLarge, UnknownCoding, BrokenBody, UnknownCharset and, when the client hangs up, ClientGone.
    """
    unpacking = _Gunzip(limit_bytes) if _is_packed(request) else None
    if int(request.headers.get("content-length", "0")) > limit_bytes:  # the server has seen that it is a number
        raise BodyTooLarge(limit_bytes=limit_bytes)
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        assert message["type"] == "http.request"
        more = message["more_body"]
        piece = message["body"]
        size += len(piece)  # packed pieces count, too: gzip can go on for ever without unpacking to anything
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        if unpacking is not None:
            await unpacking.feed(piece)
        elif piece:
            pieces.append(piece)
    if unpacking is not None:
        pieces = unpacking.whole()
    if sum(map(len, pieces)) <= PIECE_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)  # which lets go of the GIL


def _is_packed(request: Request[Any, Any, Any]) -> bool:
    """Whether the headers say gzip; raises for any other coding, and any charset but JSON's own."""
    charset = _CHARSET.search(request.headers.get("content-type", ""))
    if charset and charset[1].lower() not in {"utf-8", "utf8"}:
        raise UnknownCharset(charset=charset[1][:40])
    coding = ",".join(request.headers.getall("content-encoding", [])).strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise UnknownCoding(accepted=["gzip"])
    return "gzip" in coding


class _Gunzip:
    """Unpacks gzip piece by piece: a bomb is stopped at the limit and never holds the event loop for long."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._stream = zlib.decompressobj(wbits=31)
        self._pieces: list[bytes] = []
        self._size = 0
        self._members = 1

    async def feed(self, packed: bytes) -> None:
        while packed:
            if self._stream.eof:  # RFC 1952, 2.2: a gzip file may have several members
                self._members += 1
                if self._members > MOST_MEMBERS:
                    raise BrokenBody(f"more than {MOST_MEMBERS} gzip members")
                self._stream = zlib.decompressobj(wbits=31)
            try:
                piece = self._stream.decompress(packed, PIECE_BYTES)
            except zlib.error as error:
                raise BrokenBody(str(error)) from error
            packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self._size += len(piece)
            if self._size > self._limit_bytes:
                raise BodyTooLarge(limit_bytes=self._limit_bytes)
            self._pieces.append(piece)
            if len(piece) == PIECE_BYTES:
                await asyncio.sleep(0)

    def whole(self) -> list[bytes]:
        if not self._stream.eof:
            raise BrokenBody("the gzip stream ends too early")
        return self._pieces
