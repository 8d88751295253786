"""What operators and programs ask of the service itself: is it alive, is it ready, what does it count."""

import asyncio
from typing import Literal

import asyncpg
import msgspec
from litestar.handlers import HTTPRouteHandler

from kinfolk.kit import metrics
from kinfolk.kit.db import DatabaseAway
from kinfolk.kit.http.answers import Answer, Request
from kinfolk.kit.http.routes import get
from kinfolk.kit.log import note
from kinfolk.kit.revision import is_current

READY_SECONDS = 1.0


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["alive"]


class Readiness(msgspec.Struct):
    """Whether requests can be served, and what is missing if not."""

    status: Literal["ready", "not ready"]
    database: str
    migrations: str
    redis: str | msgspec.UnsetType = msgspec.UNSET
    """Only where there is one. Requests are served without it, too."""


@get("/health", gives={200: Health}, given=Health("alive"))
async def health(_request: Request) -> Answer:
    """Is this process alive?"""
    return Answer.of(Health("alive"))


@get("/ready", gives={200: Readiness, 503: Readiness}, given=Readiness("ready", "answers", "at head"))
async def ready(request: Request) -> Answer:
    """Can requests be served? The database answers within a second and its tables are up to date."""
    redis = await _redis(request)
    try:
        async with asyncio.timeout(READY_SECONDS), request.db.connection() as conn:
            current = await is_current(conn)
    except Exception as error:  # whatever it is, we are not ready, and the prober must be told
        note(reason=type(error).__name__)
        return Answer.of(Readiness("not ready", _what_is_known(error), "unknown", redis), 503)
    if not current:
        return Answer.of(Readiness("not ready", "answers", "not at head: run kinfolk db upgrade head", redis), 503)
    return Answer.of(Readiness("ready", "answers", "at head", redis))


async def _redis(request: Request) -> str | msgspec.UnsetType:
    shelf = request.cache.shelf
    if shelf is None:
        return msgspec.UNSET
    return "answers" if await shelf.is_reachable() else "does not answer: each process has its own answers"


def _what_is_known(error: Exception) -> str:
    """Why the database could not be asked, in words for anybody; the server's own are in the log."""
    if isinstance(error, TimeoutError):
        return "did not answer within a second"
    if not isinstance(error, DatabaseAway):
        return "could not be asked: the log says why"
    is_refusal = isinstance(error.__cause__, asyncpg.PostgresError)
    is_lost = isinstance(error.__cause__, asyncpg.PostgresConnectionError)
    return "does not let us in" if is_refusal and not is_lost else "cannot be reached"


@get("/metrics", gives={200: "text/plain"})
async def metrics_text(_request: Request) -> Answer:
    """Counters of all processes, in the text format of Prometheus; those of the others are at most a second old."""
    metrics.http_metrics().share()
    body, media_type = await asyncio.to_thread(metrics.exposition)
    return Answer(body, media_type=media_type.encode())


ROUTES: list[HTTPRouteHandler] = [health, ready, metrics_text]
