"""The guard: every route of every module passes it, once it is known which and before anything of a body is read.

What is at no address is answered 404 to anybody: which addresses there are, the open schema tells already.
"""

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

from litestar.types import ASGIApp, Receive, Scope, Send

from kinfolk.kit.auth import NOBODY, Auth, Grant, Rule, Who
from kinfolk.kit.log import note
from kinfolk.kit.proxies import Proxies

OPEN = Rule(is_open=True)
WEBSOCKET = "/ws"
LONGEST_TOKEN = 200
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)[ \t]*", re.IGNORECASE)
_PROXIES = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})


class Guard:
    """ASGI layer between the router and a route."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what `Auth.admit` does."""
        note(address=address_of(scope, self._auth.proxies) or None)
        rule = self._rule(scope)
        if not rule.is_open and not (rule.is_open_on_loopback and is_from_here(scope)):
            who, grant = await self._auth.admit(rule, token_of(scope))
            scope["state"]["admitted"] = who, grant
            note(by=who.by)
        await self._app(scope, receive, send)

    def _rule(self, scope: Any) -> Rule:
        """Raises KeyError for a route without one: `unruled_routes` has seen to it that there is none."""
        method = scope.get("method", "GET")
        return OPEN if method == "OPTIONS" else self._auth.rules[f"{method} {scope['path_template']}"]


def admitted(scope: Any) -> tuple[Who, Grant]:
    """Whom the guard let in, and to what. Raises KeyError on a route that is open to anybody."""
    if not scope["app"].state.auth.is_required:
        return NOBODY, "all"
    found: tuple[Who, Grant] = scope["state"]["admitted"]
    return found


def token_of(scope: Any) -> str | None:
    """The token that came with a request: `Authorization: Bearer …` (RFC 6750, 2.1).

    Where a WebSocket is asked for also `Sec-WebSocket-Protocol: bearer, …` or `?token=…`: a browser cannot send the
    header. Where two headers say who it is, neither does: a proxy may have looked at the other one.
    """
    found, count = b"", 0
    for name, value in scope["headers"]:
        if name == b"authorization":
            match = _BEARER.fullmatch(value)
            found = match[1] if match else found
            count += 1
        elif name == b"sec-websocket-protocol" and scope["path"] == WEBSOCKET:
            words = [word.strip() for word in value.split(b",")]
            found = words[1] if len(words) == 2 and words[0].lower() == b"bearer" else found
    if not found and scope["path"] == WEBSOCKET:
        found = parse_qs(scope["query_string"]).get(b"token", [b""])[0]
    return found.decode("latin-1") if 0 < len(found) <= LONGEST_TOKEN and count < 2 else None


def address_of(scope: Any, proxies: Proxies) -> str:
    """Who asks, as `Proxies.asker` has it."""
    client: Any = scope["client"]
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return proxies.asker(client[0] if client else "", forwarded)


def is_from_here(scope: Any) -> bool:
    """Does this machine itself ask? Not where a proxy says that it asks for somebody else."""
    client = scope["client"]
    if not client or any(name in _PROXIES for name, _ in scope["headers"]):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:  # a unix socket has no address
        return False
