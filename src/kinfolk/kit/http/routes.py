"""A route: a method, a path and what the documentation says of it, around a function that takes a Request."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import HttpMethod, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from kinfolk.kit import problems
from kinfolk.kit.http.answers import Answer, Request

_ID = re.compile(r"\{(\w+)\}")

Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Header:
    """A header of a request or an answer."""

    name: str
    description: str
    example: str | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What the OpenAPI document says of a route beyond its method, path and docstring."""

    gives: Mapping[int, type[Any] | str | None]
    """Per status the shape of the JSON, or another media type, or None for no body."""
    takes: type[Any] | None = None
    sent: Any = None
    """An example of a body that is taken."""
    given: Any = None
    """An example of the answer to it."""
    refuses: Sequence[type[problems.Problem]] = ()
    """Beyond a wrong query, where it asks one, and what every route may refuse."""
    asks: type[Any] | None = None
    """The shape of the query, as `Request.asked` reads it."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the path that are not numbers, and what they are."""
    reads: Sequence[Header] = ()
    sets: Sequence[Header] = ()
    is_at_root: bool = True
    """Served without `/api/v1` too, where its module is."""


def _route(method: HttpMethod, path: str, operation: Operation) -> Callable[[Handler], HTTPRouteHandler]:
    def decorate(function: Handler) -> HTTPRouteHandler:
        async def handle(request: Request) -> ASGIApp:
            return await function(request)

        handle.__name__ = function.__name__
        handle.__doc__ = function.__doc__
        place = _ID.sub(r"{\1:str}", path)
        # The status is the Answer's own; left alone, Litestar would take DELETE for one that never has a body.
        return route(place, http_method=[method], status_code=200, opt={"operation": operation})(handle)

    return decorate


def get(path: str, **operation: Any) -> Callable[[Handler], HTTPRouteHandler]:
    return _route(HttpMethod.GET, path, Operation(**operation))


def post(path: str, **operation: Any) -> Callable[[Handler], HTTPRouteHandler]:
    return _route(HttpMethod.POST, path, Operation(**operation))


def put(path: str, **operation: Any) -> Callable[[Handler], HTTPRouteHandler]:
    return _route(HttpMethod.PUT, path, Operation(**operation))


def patch(path: str, **operation: Any) -> Callable[[Handler], HTTPRouteHandler]:
    return _route(HttpMethod.PATCH, path, Operation(**operation))


def delete(path: str, **operation: Any) -> Callable[[Handler], HTTPRouteHandler]:
    return _route(HttpMethod.DELETE, path, Operation(**operation))
