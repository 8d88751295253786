"""Answers in the coding that the client prefers: zstd, brotli or gzip."""

import asyncio
import gzip
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import brotli
import zstandard
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from kinfolk.kit.cache import Kept
from kinfolk.kit.http.answers import CODINGS

LEAST_BYTES = 1_024
LEAST_BYTES_FOR_A_THREAD = 65_536

PACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=3).compress(body),
    "br": lambda body: bytes(brotli.compress(body, quality=4)),
    "gzip": lambda body: gzip.compress(body, compresslevel=5, mtime=0),
}
_PACKABLE = (b"application/json", b"application/problem+json", b"text/", b"application/javascript", b"image/svg+xml")


class Compression:
    """ASGI layer: packs a whole body of text, whose packed form has its own entity tag; a stream passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        coding = _preferred(_accepted(scope["headers"]))
        start: HTTPResponseStartEvent | None = None

        async def packed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                first, start = start, None
                headers: list[Any] = first["headers"]  # type: ignore[assignment]
                if first["status"] == 304:
                    first["headers"] = _seen(headers, scope["headers"])
                elif _is_packable(headers):
                    headers.append((b"vary", b"Accept-Encoding"))
                    body = message["body"]
                    if coding and len(body) >= LEAST_BYTES and not message["more_body"]:
                        kept: Kept | None = message.get("kept")  # type: ignore[assignment]  # see KeptAnswer
                        pack = partial(_pack, coding)
                        body = await (kept.packed(coding, pack) if kept else pack(body))
                        message["body"] = body
                        first["headers"] = _headers(headers, coding, len(body))
                await send(first)
            await send(message)

        await self._app(scope, receive, packed)


async def _pack(coding: str, body: bytes) -> bytes:
    if len(body) >= LEAST_BYTES_FOR_A_THREAD:
        return await asyncio.to_thread(PACK[coding], body)
    return PACK[coding](body)


def _accepted(headers: Any) -> bytes:
    return b",".join([value for name, value in headers if name == b"accept-encoding"])


@lru_cache(maxsize=256)
def _preferred(accept: bytes) -> str | None:
    """The coding that an Accept-Encoding prefers (RFC 9110, 12.5.3): by its weight, then zstd, br, gzip.

    None leaves the body as it is, even if identity was refused: an answer that can be read beats a 406.
    """
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


def _is_packable(headers: Any) -> bool:
    names = dict(headers)
    return b"content-encoding" not in names and names.get(b"content-type", b"").startswith(_PACKABLE)


def _seen(headers: Any, asked: Any) -> list[tuple[bytes, bytes]]:
    """The headers of a 304: its tag is that of the coding which the client has."""
    seen = b",".join(value for name, value in asked if name == b"if-none-match")
    confirmed = [(b"vary", b"Accept-Encoding")]
    for name, value in headers:
        if name == b"etag" and value not in seen:
            value = next((coded for coding in CODINGS if (coded := _coded(value, coding)) in seen), value)  # noqa: PLW2901
        confirmed.append((name, value))
    return confirmed


def _coded(tag: bytes, coding: str) -> bytes:
    return tag[:-1] + b"." + coding.encode() + b'"'


def _headers(headers: Any, coding: str, length: int) -> list[tuple[bytes, bytes]]:
    packed = [(b"content-encoding", coding.encode()), (b"content-length", b"%d" % length)]
    for name, value in headers:
        if name == b"etag":
            packed.append((name, _coded(value, coding)))
        elif name != b"content-length":
            packed.append((name, value))
    return packed
