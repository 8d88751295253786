"""Calls to outside services: bounded in time and size, tried again where that is harmless, never led elsewhere.

    clock = Outside("timezone", limit_seconds=5)
    reply = await clock.get("timezone", area, city, absent=NoSuchTimezone())
    there = reply.document(Clock)

`know(timezone="https://…")` says where each service is, once a process. Certificates are always verified, and no
variable of the environment (a proxy, a .netrc) has a say in where a call goes. What calls is `kit/calls.py`, loaded
where there is somebody to call, for its libraries take up 3 MB.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from kinfolk.kit.calls import Caller, OnRequest, OnResponse, Reply
    from kinfolk.kit.problems import Problem

_PLAIN = re.compile(r"[A-Za-z0-9_+-]{1,64}")


def is_plain(part: str) -> bool:
    """Up to 64 letters, digits, `_`, `-` and `+`: they cannot lead elsewhere, whoever unquotes or joins the path."""
    return _PLAIN.fullmatch(part) is not None


class Outside:
    """An outside service, of which a process has one client."""

    def __init__(
        self,
        name: str,
        *,
        limit_seconds: float = 5.0,
        limit_bytes: int = 1_048_576,
        attempts: int = 3,
        on_request: "Sequence[OnRequest]" = (),
        on_response: "Sequence[OnResponse]" = (),
    ) -> None:
        """`limit_seconds` bounds a call with all its attempts, `limit_bytes` the body of an answer."""
        self.name = name
        self.limit_seconds = limit_seconds
        self.limit_bytes = limit_bytes
        self.attempts = attempts
        self.on_request = on_request
        self.on_response = on_response

    @property
    def is_known(self) -> bool:
        """Is there an address for it?"""
        return self.name in _addresses

    async def get(self, *path: str, query: Mapping[str, str] | None = None, absent: "Problem | None" = None) -> "Reply":
        """As `send`."""
        return await self.send("GET", *path, query=query, absent=absent)

    async def send(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        document: Any = None,
        absent: "Problem | None" = None,
    ) -> "Reply":
        """Call the service, with a `document` as JSON; `path` are the parts below its address.

        Another attempt is made where it does no harm: for idempotent methods, and where nothing has arrived. Raises
        `absent` where the service answers 404, GatewayTimeout where it did not answer, BadGateway where it answered
        nonsense (404, too, where nothing is said of it), ValueError for a part that could lead to another path.
        """
        address = _addresses[self.name]
        expects = () if absent is None else (404,)
        reply = await self._caller().send(method, address, *path, query=query, document=document, expects=expects)
        if absent is not None and reply.status == 404:
            raise absent
        return reply

    def _caller(self) -> "Caller":
        from kinfolk.kit.calls import Caller

        caller = _callers.get(self)
        if caller is None:
            caller = _callers[self] = Caller(
                self.name,
                limit_seconds=self.limit_seconds,
                limit_bytes=self.limit_bytes,
                attempts=self.attempts,
                on_request=self.on_request,
                on_response=self.on_response,
            )
        return caller


_addresses: "dict[str, httpx.URL]" = {}
_callers: "dict[Outside, Caller]" = {}


def know(**addresses: str | None) -> None:
    """Say where the services are, by name; None is nowhere. Raises WrongSetting."""
    for name, address in addresses.items():
        _addresses.pop(name, None)
        if address is not None:
            from kinfolk.kit.calls import address_of

            _addresses[name] = address_of(name, address)


@asynccontextmanager
async def connections() -> AsyncIterator[None]:
    """At the end, close what calls have left open."""
    try:
        yield
    finally:
        while _callers:
            await _callers.popitem()[1].close()
