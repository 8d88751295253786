"""`GET /ws`: a request like any other until it is let in, and then a WebSocket."""

import base64
import binascii
from typing import Any, ClassVar

from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send
from websockets.utils import accept_key

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer, Request
from kinfolk.kit.http.audience import Audience, EventsAway, TooManySockets
from kinfolk.kit.http.guard import WEBSOCKET, token_of
from kinfolk.kit.http.routes import Header, get
from kinfolk.kit.http.websocket import Socket

SWITCHED = "websocket"
"""The extension of a scope whose server can become a WebSocket, and the key of the message that asks it to."""
VERSION = b"13"
SUBPROTOCOL = "bearer"


class NotWebSocket(problems.Problem):
    """This address speaks WebSocket."""

    status = 426
    headers: ClassVar[dict[str, str]] = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}


class BadHandshake(problems.BadInput):
    """The headers that ask for a WebSocket break the rules of RFC 6455."""


class ForeignOrigin(problems.Forbidden):
    """A page of another site may not listen here."""


class _Switched(Answer):
    """101, with what the connection becomes."""

    __slots__ = ("_socket",)

    def __init__(self, socket: Socket, headers: dict[str, str]) -> None:
        super().__init__(status=101, headers=headers)
        self._socket = socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's names
        start = self.start(scope, self.headers, 0)
        start[SWITCHED] = self._socket
        await send(start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@get(
    WEBSOCKET,
    gives={101: None},
    refuses=(NotWebSocket, BadHandshake, ForeignOrigin, EventsAway, TooManySockets),
    reads=[
        Header("Sec-WebSocket-Protocol", "`bearer, TOKEN`: for browsers, which cannot send an Authorization."),
        Header("Origin", "Where nobody is asked for a token, only pages of this address may listen."),
    ],
)
async def listen(request: Request) -> Answer:
    """Listen to events over a WebSocket.

    Each is a text of JSON: `name`, `when`, `what`. To `{"say": "…"}` the answer is `{"echo": "…"}`.
    """
    headers = _headers(request)
    if SWITCHED not in (request.scope.get("extensions") or {}):
        raise NotWebSocket
    key = _key(headers)
    if not request.app.state.auth.is_required and not _is_own_page(headers):
        raise ForeignOrigin
    audience: Audience = request.app.state.audience
    await audience.ready()
    switching = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-accept": accept_key(key)}
    if _offers_bearer(headers):
        switching["sec-websocket-protocol"] = SUBPROTOCOL
    token = token_of(request.scope) or ""
    return _Switched(Socket(audience, request.who, token, request.scope["state"]["request_id"]), switching)


def _headers(request: Request) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in request.scope["headers"]:
        found.setdefault(name, []).append(value)
    return found


def _key(headers: dict[bytes, list[bytes]]) -> str:
    """Raises BadHandshake, and NotWebSocket for another version of the protocol."""
    if headers.get(b"sec-websocket-version") != [VERSION]:
        raise NotWebSocket
    try:
        [key] = headers.get(b"sec-websocket-key", [])
        is_right = len(base64.b64decode(key, validate=True)) == 16
    except (ValueError, binascii.Error):
        is_right = False
    if not is_right:
        raise BadHandshake("Sec-WebSocket-Key must be 16 bytes in base64")
    if headers.get(b"content-length", [b"0"]) != [b"0"] or b"transfer-encoding" in headers:
        raise BadHandshake("a request for a WebSocket has no body")
    return key.decode()


def _is_own_page(headers: dict[bytes, list[bytes]]) -> bool:
    """Without tokens any page that a visitor of this machine opens could listen: a browser says whose page asks.

    Programs say nothing. The scheme is left out, for a proxy may have taken TLS away.
    """
    origins = headers.get(b"origin", [])
    hosts = [host.lower() for host in headers.get(b"host", [])]
    return all([origin.lower().rpartition(b"://")[2]] == hosts for origin in origins)


def _offers_bearer(headers: dict[bytes, list[bytes]]) -> bool:
    offered = b",".join(headers.get(b"sec-websocket-protocol", []))
    return SUBPROTOCOL.encode() in [word.strip().lower() for word in offered.split(b",")]


def is_asked(scope: Any) -> bool:
    """Does this request want to become a WebSocket, as far as its server must know?"""
    if scope["method"] != "GET" or scope["path"] != WEBSOCKET or scope["http_version"] != "1.1":
        return False
    upgrade = b",".join(value for name, value in scope["headers"] if name == b"upgrade")
    connection = b",".join(value for name, value in scope["headers"] if name == b"connection")
    return upgrade.strip().lower() == b"websocket" and b"upgrade" in [
        word.strip().lower() for word in connection.split(b",")
    ]


ROUTES: list[HTTPRouteHandler] = [listen]
