"""Bodies in the coding that the client prefers: zstd, brotli or gzip. A packed form has an entity tag of its own."""

import asyncio
import gzip
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeAlias

import brotli
import zstandard

CODINGS = ("zstd", "br", "gzip")
LEAST_BYTES = 1_024
LEAST_BYTES_FOR_A_THREAD = 65_536

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

PACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=3).compress(body),
    "br": lambda body: bytes(brotli.compress(body, quality=4)),
    "gzip": lambda body: gzip.compress(body, compresslevel=5, mtime=0),
}
VARY = (b"vary", b"Accept-Encoding")
_PACKABLE = (b"application/json", b"application/problem+json", b"text/", b"application/javascript", b"image/svg+xml")


async def pack(coding: str, body: bytes) -> bytes:
    if len(body) >= LEAST_BYTES_FOR_A_THREAD:
        return await asyncio.to_thread(PACK[coding], body)
    return PACK[coding](body)


def preferred(asked: Headers) -> str | None:
    """The coding that a request's Accept-Encoding prefers (RFC 9110, 12.5.3): by its weight, then zstd, br, gzip.

    None leaves the body as it is, even if identity was refused: an answer that can be read beats a 406.
    """
    return _preferred(b",".join([value for name, value in asked if name == b"accept-encoding"]))


@lru_cache(maxsize=256)
def _preferred(accept: bytes) -> str | None:
    weights: dict[str, float] = {}
    for part in accept.decode("latin-1").lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            continue
    weight_of = {coding: weights.get(coding, weights.get("*", 0.0)) for coding in CODINGS}
    best = max(CODINGS, key=weight_of.__getitem__)
    return best if weight_of[best] > 0 and weight_of[best] >= weights.get("identity", 0.0) else None


def is_packable(headers: Headers) -> bool:
    """Is it text, and not packed already?"""
    names = dict(headers)
    return b"content-encoding" not in names and names.get(b"content-type", b"").startswith(_PACKABLE)


def confirmed(headers: Headers, asked: Headers) -> Headers:
    """The headers of a 304: its tag is that of the coding which the client has."""
    seen = b",".join([value for name, value in asked if name == b"if-none-match"])
    told = [VARY]
    for name, value in headers:
        if name == b"etag" and value not in seen:
            value = next((coded for coding in CODINGS if (coded := _coded(value, coding)) in seen), value)  # noqa: PLW2901
        told.append((name, value))
    return told


def packed(headers: Headers, coding: str, length: int) -> Headers:
    """The headers of a body, once it is packed to `length` bytes."""
    told = [(b"content-encoding", coding.encode()), (b"content-length", b"%d" % length)]
    for name, value in headers:
        if name == b"etag":
            told.append((name, _coded(value, coding)))
        elif name != b"content-length":
            told.append((name, value))
    return told


def _coded(tag: bytes, coding: str) -> bytes:
    return tag[:-1] + b"." + coding.encode() + b'"'
