"""Answers in the coding that the client prefers: zstd, brotli or gzip."""

import asyncio
import gzip
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import brotli
import zstandard
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

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
                if _is_packable(headers):
                    headers.append((b"vary", b"Accept-Encoding"))
                    body = message["body"]
                    if coding and len(body) >= LEAST_BYTES and not message["more_body"]:
                        pack = PACK[coding]
                        if len(body) >= LEAST_BYTES_FOR_A_THREAD:
                            body = await asyncio.to_thread(pack, body)
                        else:
                            body = pack(body)
                        message["body"] = body
                        first["headers"] = _headers(headers, coding, len(body))
                await send(first)
            await send(message)

        await self._app(scope, receive, packed)


def _accepted(headers: Any) -> bytes:
    return b",".join(value for name, value in headers if name == b"accept-encoding")


@lru_cache(maxsize=256)
def _preferred(accept: bytes) -> str | None:
    """The best coding that an Accept-Encoding allows (RFC 9110, 12.5.3): by its weight, then zstd, br, gzip."""
    weights: dict[str, float] = {}
    for part in accept.decode("latin-1").lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            continue
    best = max(CODINGS, key=lambda coding: weights.get(coding, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else None


def _is_packable(headers: Any) -> bool:
    kinds = dict(headers)
    return b"content-encoding" not in kinds and kinds.get(b"content-type", b"").startswith(_PACKABLE)


def _headers(headers: Any, coding: str, length: int) -> list[tuple[bytes, bytes]]:
    packed = [(b"content-encoding", coding.encode()), (b"content-length", b"%d" % length)]
    for name, value in headers:
        if name == b"etag":
            packed.append((name, value[:-1] + b"." + coding.encode() + b'"'))
        elif name != b"content-length":
            packed.append((name, value))
    return packed
