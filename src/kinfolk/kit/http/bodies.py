"""Reading a request's body: bounded, unpacked, and never trusted to be whole."""

import asyncio
import re
import zlib
from typing import Any

from litestar import Request

from kinfolk.kit import problems

PIECE_BYTES = 1_048_576
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
    headers = request.headers
    charset = _CHARSET.search(headers.get("content-type", ""))
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        raise UnknownCharset(charset=charset[1][:40])
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise UnknownCoding(accepted=["gzip"])
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit_bytes:  # a packed body above the limit is above it unpacked, too
        raise BodyTooLarge(limit_bytes=limit_bytes)
    unpacking = _Gunzip(limit_bytes) if "gzip" in coding else None
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
        if unpacking is not None:
            await unpacking.feed(piece)
        elif piece:
            size += len(piece)
            if size > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes)
            pieces.append(piece)
    if unpacking is not None:
        return unpacking.whole()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Gunzip:
    """Unpacks gzip piece by piece: a bomb is stopped at the limit and never holds the event loop for long."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._stream = zlib.decompressobj(wbits=31)
        self._pieces: list[bytes] = []
        self._size = 0

    async def feed(self, packed: bytes) -> None:
        while packed:
            if self._stream.eof:  # RFC 1952, 2.2: a gzip file may have several members
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

    def whole(self) -> bytes:
        if not self._stream.eof:
            raise BrokenBody("the gzip stream ends too early")
        return b"".join(self._pieces)
