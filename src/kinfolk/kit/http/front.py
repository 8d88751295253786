"""The outermost layer: the request's id, HEAD, its one line in the log, its count in the metrics, and accidents."""

import logging
import os
import re
from time import perf_counter
from typing import Any

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from kinfolk.kit import log, problems
from kinfolk.kit.http.answers import Answer
from kinfolk.kit.http.bodies import ClientGone
from kinfolk.kit.metrics import HttpMetrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES = frozenset({"/health", "/ready", "/metrics"})
CLIENT_GONE = 499  # nginx's number for a client that hung up; only logs and metrics see it

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class NoSuchPlace(problems.NotFound):
    """There is nothing at this address."""


class WrongMethod(problems.MethodNotAllowed):
    """This address does not take that method."""


class InternalError(problems.Problem):
    """Something went wrong on our side."""

    status = 500


class Front:
    """ASGI layer around the whole application."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, send)  # type: ignore[arg-type]  # the server speaks neither lifespan nor WebSocket
        with log.facts() as facts:
            error: Exception | None = None
            try:
                place = self._app if _is_one_address(exchange.scope) else _nowhere
                await place(exchange.scope, receive, exchange.send)
                error = exchange.scope["state"].get("accident")
            except ClientGone:
                exchange.status = CLIENT_GONE
            except Exception as accident:
                error = accident
                if exchange.status:  # the answer has begun: the server can only cut it off
                    raise
                await Answer.refusing(InternalError(request_id=exchange.id))(scope, receive, exchange.send)
            finally:
                self._tell(exchange, facts, error)

    def _tell(self, exchange: "_Exchange", facts: dict[str, Any], error: Exception | None) -> None:
        seconds = perf_counter() - exchange.begun
        scope = exchange.scope
        method = exchange.method if exchange.method in METHODS else "other"
        self._metrics.count(method, scope.get("path_template") or "unknown", exchange.status, seconds)
        path = scope["path"]
        level = logging.ERROR if error else logging.DEBUG if path in PROBES else logging.INFO
        line = {
            "event": "request",
            "id": exchange.id,
            "method": exchange.method[:16],
            "path": path[:200],
            "status": exchange.status,
            "ms": seconds * 1_000,
            "bytes": exchange.sent_bytes,
        }
        log.write_line(line | facts, level, error)


class _Exchange:
    """One request and what becomes of it."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self.begun = perf_counter()
        self.method: str = scope["method"]
        self.status = 0
        self.sent_bytes = 0
        self._send = send
        self._request_id = _request_id(scope["headers"])
        self.id = self._request_id.decode()
        # HEAD is answered as GET is; the server keeps its own scope, and drops the body.
        method = "GET" if self.method == "HEAD" else self.method
        self.scope: HTTPScope = {**scope, "method": method, "state": {"request_id": self.id}}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[Any] = message["headers"]  # type: ignore[assignment]
            headers.append((b"x-request-id", self._request_id))
            headers += _SAFE
            if self.method == "OPTIONS":  # the framework does not know that we answer HEAD
                headers[:] = [(name, _with_head(value) if name == b"allow" else value) for name, value in headers]
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message["body"])
        await self._send(message)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    await Answer.refusing(NoSuchPlace())(scope, receive, send)


def _with_head(allow: bytes) -> bytes:
    return allow.replace(b"GET,", b"GET, HEAD,")


def _request_id(headers: Any) -> bytes:
    """The client's own id (`X-Request-ID`, or the trace of a `traceparent`, W3C Trace Context), else a new one."""
    trace = None
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            trace = match[1]
    return trace or os.urandom(8).hex().encode()


def _is_one_address(scope: HTTPScope) -> bool:
    """Each thing has one address: no trailing slash, and no slash hidden as %2F."""
    path = scope["path"]
    return not (len(path) > 1 and path.endswith("/")) and b"%2f" not in scope["raw_path"].lower()
