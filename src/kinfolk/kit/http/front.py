"""The outermost layer: a request's id and address, HEAD, the line in the log, the count in the metrics, accidents."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Collection
from functools import lru_cache
from random import getrandbits
from time import perf_counter
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from kinfolk.kit import log, problems, telemetry
from kinfolk.kit.http.answers import Answer
from kinfolk.kit.http.bodies import ClientGone
from kinfolk.kit.metrics import HttpMetrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES = frozenset({"/health", "/ready", "/metrics"})
CLIENT_GONE = 499  # nginx's number for a client that hung up; only logs and metrics see it
PATIENCE_SECONDS = 5.0
PATIENCE_BYTES = 100_000_000

_READ_HERE = frozenset(
    {b"x-request-id", b"traceparent", b"sec-fetch-site", b"transfer-encoding", b"content-length", b"host"}
)
_THIS_MACHINE = re.compile(rb"(|localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_HARDENING = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class NoSuchPlace(problems.NotFound):
    """There is nothing at this address."""


class WrongMethod(problems.MethodNotAllowed):
    """This address does not take that method."""


class CrossSite(problems.Forbidden):
    """A page of another site may not change anything here."""


class WrongHost(problems.Forbidden):
    """Where nobody is asked who they are, this machine is called localhost or 127.0.0.1."""


class UnclearHost(problems.BadInput):
    """A request of HTTP/1.1 says once which host it is for (RFC 9112, section 3.2)."""


class InternalError(problems.Problem):
    """Something went wrong on our side."""

    status = 500


class Front:
    """ASGI layer around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: HttpMetrics,
        slash_below: tuple[str, ...] = (),
        *,
        words: Collection[str] = (),
        is_local: bool = False,
    ) -> None:
        """`slash_below` are beginnings of paths, each with a slash at its end, that may have one slash too many.

        `words` are those of our addresses; `is_local`: it is asked for by a name of this machine, or refused.
        """
        self._app = app
        self._metrics = metrics
        self._slash_below = slash_below
        self._words = frozenset(words)
        self._is_local = is_local

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """The server speaks neither lifespan nor WebSocket, so a scope is always that of a request."""
        begun = perf_counter()
        head = _Head(scope["headers"])
        method = scope["method"]
        if method == "HEAD":  # is answered as GET is; the server keeps its own scope, and drops the body
            scope = {**scope, "method": "GET"}
        if not head.is_read:
            unread = _Unread(receive, send)
            receive, send = unread.receive, unread.send
        state: dict[str, Any] = {
            "request_id": head.id,
            "method": method if method in METHODS else "other",
            "headers": ((b"x-request-id", head.id.encode()), *_HARDENING),  # of whatever is answered to it
        }
        scope["state"] = state
        span = telemetry.begin(method, "server", head.traceparent, head.id)
        with log.facts(head.id) as facts, span:
            error: Exception | None = None
            try:
                if (refusal := self._refusal(scope, head)) is None:
                    await self._app(scope, receive, send)
                else:
                    await Answer.refusing(refusal)(scope, receive, send)
                error = state.get("accident")
            except ClientGone:
                state["status"] = CLIENT_GONE
            except Exception as accident:
                error = accident
                if "status" in state:  # the answer has begun: the server can only cut it off
                    raise
                await Answer.refusing(InternalError(request_id=head.id))(scope, receive, send)
            finally:
                self._tell(scope, perf_counter() - begun, facts, error, span)

    def _refusal(self, scope: Any, head: "_Head") -> problems.Problem | None:
        """Why this request goes no further.

        Each thing has one address: no slash at its end, no double one, none hidden as %2F. A page of another site
        must not use its visitor's browser to reach us (Fetch Metadata Request Headers, 2.3), nor call this machine by
        a name of its own (DNS rebinding).
        """
        if len(head.hosts) != 1 and (head.hosts or scope["http_version"] == "1.1"):
            return UnclearHost()
        if self._is_local and not _is_this_machine(head.hosts[0] if head.hosts else b""):
            return WrongHost()
        path = scope["path"]
        is_slashed = path.endswith("/") and len(path) > 1 and not path.startswith(self._slash_below)
        if is_slashed or "//" in path or b"%2f" in scope["raw_path"].lower():
            return NoSuchPlace()
        if head.is_cross_site and scope["method"] not in SAFE_METHODS:
            return CrossSite()
        return None

    def _tell(
        self, scope: Any, seconds: float, facts: dict[str, Any], error: Exception | None, span: telemetry.Span
    ) -> None:
        state = scope["state"]
        method, status = state["method"], state.get("status", 0)
        route = scope.get("path_template") or "unknown"
        self._metrics.count(method, route, status, seconds)
        if span is not telemetry.NOTHING:
            told = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "id": state["request_id"],
            }
            span.end(told, error, f"{method} {route}")
        facts.pop("address", None)  # for the audit log alone
        level = logging.ERROR if error else logging.DEBUG if scope["path"] in PROBES else logging.INFO
        line = {
            "event": "request",
            "id": state["request_id"],  # its place in the line; what is noted has it, too
            "method": method,
            "path": self._shown(scope)[:200],
            "status": status,
            "ms": seconds * 1_000,
            "bytes": state.get("bytes", 0),
            **facts,
        }
        log.write_line(line, level, error)

    def _shown(self, scope: Any) -> str:
        """The path with `*` for what is neither a word of ours nor a number: people write names into addresses."""
        path: str = scope["path"]
        if scope.get("path_template") and all(map(str.isdigit, scope["path_params"].values())):
            return path
        return "/".join(part if part in self._words or part.isdigit() else "*" for part in path.split("/"))


class _Head:
    """What the front reads of a request's headers."""

    traceparent: str | None = None
    is_cross_site = False
    is_read = True
    """There is no body."""

    def __init__(self, headers: Any) -> None:
        """The client's own id (`X-Request-ID`, or the trace of a `traceparent`, W3C Trace Context), else a new one."""
        self.hosts: list[bytes] = []
        request_id = trace = b""
        for name, value in headers:
            if name not in _READ_HERE:
                continue
            if name == b"host":
                self.hosts.append(value)
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value
            elif name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
                trace = match[1]
                self.traceparent = value.decode()
            elif name == b"sec-fetch-site":
                self.is_cross_site = value == b"cross-site"
            elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
                self.is_read = False
        # Not a secret, and a call of the kernel for each request costs as much as all of the rest here.
        self.id = (request_id or trace).decode() or f"{getrandbits(64):016x}"


class _Unread:
    """A body on its way in: a client that is still sending is let finish, or it may lose the answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False

    async def receive(self) -> Any:
        message = await self._receive()
        self._is_read = message["type"] != "http.request" or not message["more_body"]
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body" and not self._is_read and not message["more_body"]:
            await self._send({**message, "more_body": True})
            await self._read_on()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _read_on(self) -> None:
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self._is_read and size < PATIENCE_BYTES:
                    size += len((await self.receive()).get("body", b""))


@lru_cache(maxsize=64)
def _is_this_machine(host: bytes) -> bool:
    return _THIS_MACHINE.fullmatch(host) is not None
