"""Reading a request's body: bounded, unpacked, never trusted to be whole, and out of memory where it is large."""

import asyncio
import os
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, BinaryIO, ClassVar

from litestar import Request

from kinfolk.kit import problems
from kinfolk.kit.documents import MalformedJson
from kinfolk.kit.log import note

PIECE_BYTES = 1_048_576
SMALL_BYTES = 4_000_000
"""What a body may take up in memory. 10,000 citizens as they mostly are stay below it."""
MOST_MEMBERS = 1_000
SILENCE_SECONDS = 60
"""After which a body that stopped coming is given up: large ones hold places that others wait for."""
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)', re.IGNORECASE)


class BodyTooLarge(problems.TooLarge):
    """The body is larger than this address takes."""


class UnknownCoding(problems.UnsupportedMediaType):
    """The body is packed in a way that this service does not unpack."""

    headers: ClassVar[dict[str, str]] = {"accept-encoding": "gzip"}  # RFC 9110, 12.5.3


class BrokenBody(problems.BadInput):
    """The body does not unpack."""


class UnknownCharset(problems.BadInput):
    """The body is to be UTF-8, as JSON is (RFC 8259, section 8.1)."""


class BodyStopped(problems.Problem):
    """The body stopped coming before it was whole."""

    status = 408


class TooManyUploads(problems.Unavailable):
    """As many large bodies are under way as are taken at a time."""


class NoRoom(problems.Unavailable):
    """There is no room just now for a body as large as this one."""


UNREADABLE = (
    MalformedJson,
    BrokenBody,
    UnknownCharset,
    BodyTooLarge,
    UnknownCoding,
    BodyStopped,
    problems.InvalidDocument,
)
"""What a route may refuse that reads a document."""


class ClientGone(Exception):  # noqa: N818  # not an error: nobody is left to answer
    """The client went away before its request was whole."""


class Uploads:
    """The large bodies under way in this process, from their first bytes to the answer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises TooManyUploads."""
        if self._count >= self._most:
            raise TooManyUploads
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class Body:
    """A body, whole: a small one in memory, a large one in a file without a name."""

    def __init__(self, uploads: Uploads, held: ExitStack) -> None:
        """`held` is what the body holds, a place among the uploads and a file, until it is done with."""
        self._uploads = uploads
        self._held = held
        self._is_upload = False
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    @property
    def is_small(self) -> bool:
        return self._file is None

    @property
    def small(self) -> bytes:
        """All of it, where it is small."""
        assert self.is_small
        return self._pieces[0]

    async def whole(self) -> bytes:
        """All of it, also where it is large, for what reads nothing but bytes."""
        if self._file is None:
            return self.small
        return await asyncio.to_thread(os.pread, self._file.fileno(), os.fstat(self._file.fileno()).st_size, 0)

    async def file(self) -> BinaryIO:
        """A file that holds it. Raises NoRoom."""
        if self._file is None:
            await self._write()
        assert self._file is not None
        return self._file

    def become_upload(self) -> None:
        """Take a place among the uploads, once. Raises TooManyUploads."""
        if not self._is_upload:
            self._held.enter_context(self._uploads.one_more())
            self._is_upload = True

    async def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pieces_bytes += len(piece)
        self.size_bytes += len(piece)
        if self._pieces_bytes > SMALL_BYTES:
            self.become_upload()
        if self._pieces_bytes > (SMALL_BYTES if self._file is None else PIECE_BYTES):
            await self._write()

    async def finish(self) -> None:
        if self._file is not None:
            await self._write()
        else:
            self._pieces = [await _joined(self._pieces)]

    async def _write(self) -> None:
        """Raises NoRoom. The disk may take its time, so a thread waits for it."""
        pieces, self._pieces, self._pieces_bytes = self._pieces, [], 0
        writing = asyncio.ensure_future(asyncio.to_thread(self._append, pieces))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            note(reason=str(error))
            raise NoRoom from None
        finally:
            await asyncio.wait([writing])  # or the file would be closed beneath it

    def _append(self, pieces: Iterable[bytes]) -> None:
        if self._file is None:
            self._file = self._held.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  # held
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]


async def read_body(request: Request[Any, Any, Any], limit_bytes: int) -> bytes:
    """The whole body after gunzip, at most `limit_bytes` of it.

    Raises BodyTooLarge, UnknownCoding, BrokenBody, UnknownCharset and, when the client hangs up, ClientGone.
    """
    return await _joined([piece async for piece in _arriving(request, limit_bytes)])


@asynccontextmanager
async def whole_body(request: Request[Any, Any, Any], limit_bytes: int, uploads: Uploads) -> AsyncIterator[Body]:
    """The whole body, for as long as this lasts; raises TooManyUploads and NoRoom, too."""
    with ExitStack() as held:
        body = Body(uploads, held)
        arriving = _arriving(request, limit_bytes)
        if SMALL_BYTES < _told_length(request) <= limit_bytes:
            body.become_upload()
        async for piece in arriving:
            await body.add(piece)
        await body.finish()
        yield body


async def _arriving(request: Request[Any, Any, Any], limit_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes, unpacked."""
    unpacking = _Gunzip(limit_bytes) if _is_packed(request) else None
    if _told_length(request) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    size = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await request.receive()
        except TimeoutError:
            raise BodyStopped(silence_seconds=SILENCE_SECONDS) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        assert message["type"] == "http.request"
        more = message["more_body"]
        piece = message["body"]
        size += len(piece)  # packed pieces count, too: gzip can go on for ever without unpacking to anything
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        if unpacking is not None:
            async for unpacked in unpacking.feed(piece):
                yield unpacked
        elif piece:
            yield piece
    if unpacking is not None:
        unpacking.end()


def _told_length(request: Request[Any, Any, Any]) -> int:
    return int(request.headers.get("content-length", "0"))  # the server has seen that it is a number


async def _joined(pieces: list[bytes]) -> bytes:
    if len(pieces) == 1:
        return pieces[0]
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
        self._size = 0
        self._members = 1

    async def feed(self, packed: bytes) -> AsyncIterator[bytes]:
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
            yield piece
            if len(piece) == PIECE_BYTES:
                await asyncio.sleep(0)

    def end(self) -> None:
        if not self._stream.eof:
            raise BrokenBody("the gzip stream ends too early")
