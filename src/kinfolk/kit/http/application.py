"""The ASGI application: the modules' routes and our own, inside the layers."""

import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ParamSpec

import msgspec
from litestar import HttpMethod, Litestar, Router, route
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.plugins.core import MsgspecDIPlugin
from litestar.types import ASGIApp

from kinfolk.kit import problems
from kinfolk.kit.auth import Auth, Rules
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Database
from kinfolk.kit.http import asyncapi, handshake, openapi, pages, watching
from kinfolk.kit.http.answers import Answer, Request
from kinfolk.kit.http.audience import Audience
from kinfolk.kit.http.bodies import ClientGone, Uploads
from kinfolk.kit.http.front import Front, InternalError, NoSuchPlace, WrongMethod
from kinfolk.kit.http.guard import Guard
from kinfolk.kit.metrics import http_metrics
from kinfolk.kit.module import Module
from kinfolk.kit.parked import Parking
from kinfolk.kit.pool import Pool
from kinfolk.kit.rabbit import Amqp
from kinfolk.kit.tokens import kept_tokens

P = ParamSpec("P")

MOST_UPLOADS = 4
MOST_SOCKETS = 2_000
NOWHERE = Amqp()
NO_RULES: Rules = {}
V1_0 = "/api/v1.0"


class _Framework(Litestar):
    """Without plugins for the shapes of other libraries: where pydantic is installed, its own would take up 14 MB.

    And without looking for OpenTelemetry, whose spans `kit/telemetry.py` makes.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[Any]) -> list[Any]:
        return [*plugins, MsgspecDIPlugin()]

    @staticmethod
    def _patch_opentelemetry_middleware(config: AppConfig) -> AppConfig:
        return config


def framework(
    modules: Sequence[Module],
    db: Database,
    cache: Cache | None = None,
    line: socket.socket | None = None,
    most_uploads: int = MOST_UPLOADS,
    *,
    amqp: Amqp = NOWHERE,
    auth: Auth | None = None,
    is_local: bool = False,
    most_sockets: int = MOST_SOCKETS,
) -> Litestar:
    """The routes without our layers, on a database and a cache that whoever runs them opens.

    `line` leads to the process beside, see `kit/pool.py`; `most_uploads` large bodies are taken at a time;
    `amqp` says where parked messages are; `most_sockets` may listen to events. Without `auth` nobody is asked who they
    are. Raises LookupError where somebody would be and a route has no rule. `is_local`: who asks for another name than
    that of this machine is refused.
    """
    auth = auth or Auth({}, kept_tokens(db, None, ""), is_required=False)
    pages.load()
    routers: list[Any] = _with_options([*watching.ROUTES, *handshake.ROUTES, *pages.ROUTES])
    for module in modules:
        routers.append(Router(openapi.HOME, route_handlers=_with_options(module.handlers())))
        if module.has_v1_0:
            routers.append(Router(V1_0, route_handlers=_with_options(module.handlers())))
        if module.is_at_root:
            published = [each for each in module.handlers() if each.opt["operation"].is_at_root]
            routers.append(Router("/", route_handlers=_with_options(published)))
    made = _Framework(
        routers,
        state=State(
            {
                "audience": Audience(db, auth, most_sockets),
                "auth": auth,
                "is_local": is_local,
                "amqp": amqp,
                "db": db,
                "cache": cache or Cache(),
                "documents": {
                    pages.OPENAPI: describe(modules, auth.rules),
                    pages.ASYNCAPI: describe_messages(modules, auth.events),
                },
                "parking": Parking([lane for module in modules for lane in module.load_lanes()], amqp),
                "pool": Pool(db, line),
                "slash_below": tuple(_slash_below(modules)),
                "uploads": Uploads(most_uploads),
            }
        ),
        request_class=Request,
        exception_handlers={Exception: _refuse},  # type: ignore[dict-item]  # an ASGI application is an answer, too
        middleware=[DefineMiddleware(Guard, auth=auth)] if auth.is_required else [],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # our own reading bounds each body
    )
    if auth.is_required and (unruled := unruled_routes(made, auth.rules)):
        raise LookupError(f"there is no rule who may {', '.join(unruled)}: see rules.py")
    return made


def every_route(made: Litestar) -> list[str]:
    """Method and path of each, as rules name them; OPTIONS is open, and HEAD is GET."""
    return sorted(
        f"{method} {found.path_format}"
        for found in made.routes
        for method in getattr(found, "methods", {"GET"})  # a WebSocket's has none, and begins as a GET
        if method != "OPTIONS"
    )


def unruled_routes(made: Litestar, rules: Rules) -> list[str]:
    """The routes that have no rule."""
    return [name for name in every_route(made) if name not in rules]


def _with_options(handlers: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """With what answers OPTIONS at each path: Litestar's own answer knows only the first route of several."""
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            methods.setdefault(path, {"OPTIONS"}).update(_with_head(handler.http_methods))
    return [*(_options(path, ", ".join(sorted(allowed))) for path, allowed in methods.items()), *handlers]


def _options(path: str, allowed: str) -> HTTPRouteHandler:
    async def options() -> ASGIApp:
        return Answer(status=204, headers={"allow": allowed})

    return route(path, http_method=[HttpMethod.OPTIONS], status_code=200)(options)  # the status is the Answer's own


def _whole(frame: Callable[P, Litestar]) -> Callable[P, ASGIApp]:
    def application(*arguments: P.args, **named: P.kwargs) -> ASGIApp:
        made = frame(*arguments, **named)
        state = made.state
        words = {part for name in every_route(made) for part in name.partition(" ")[2].split("/") if part[:1] != "{"}
        return Front(made, http_metrics(), state["slash_below"], words=words, is_local=state["is_local"])

    return application


application = _whole(framework)
"""The whole application, as a process serves it, with the arguments of `framework`."""


def _slash_below(modules: Sequence[Module]) -> Iterator[str]:
    for module in modules:
        for root in ["", openapi.HOME] if module.is_at_root else [openapi.HOME]:
            yield from (f"{root}{path}/" for path in module.slash_below)


def describe(modules: Sequence[Module], rules: Rules = NO_RULES) -> bytes:
    """The OpenAPI document of these modules, as it is served and committed."""
    return _written(openapi.document(modules, [*watching.ROUTES, *handshake.ROUTES], rules))


def describe_messages(modules: Sequence[Module], events: Rules = NO_RULES) -> bytes:
    """The AsyncAPI document of these modules and events, as it is served and committed."""
    return _written(asyncapi.document([lane for module in modules for lane in module.load_lanes()], events))


def _written(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _refuse(request: Request, error: Exception) -> Any:
    """A Problem is answered as it is; what the framework says is said in our form; all else is an accident."""
    match error:
        case problems.Problem():
            return Answer.refusing(error)
        case MethodNotAllowedException():
            return Answer.refusing(WrongMethod(_allowed(error)))
        case HTTPException(status_code=404):
            return Answer.refusing(NoSuchPlace())
        case ClientGone():
            raise error
    request.scope["state"]["accident"] = error
    return Answer.refusing(InternalError(request_id=request.scope["state"]["request_id"]))


def _allowed(error: MethodNotAllowedException) -> list[str]:
    return sorted(_with_head({method.strip() for method in (error.headers or {}).get("allow", "").split(",")}))


def _with_head(methods: Collection[str]) -> set[str]:
    """The framework does not know that we answer HEAD."""
    return {*methods, "HEAD"} if "GET" in methods else set(methods)
