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
from kinfolk.kit.rabbit import is_reachable
from kinfolk.kit.revision import head, known, revision_of

READY_SECONDS = 1.0
AHEAD = "ahead: the tables are a newer Kinfolk's"
"""They serve this one, too, until each process is replaced."""
NO_MESSAGES = "does not answer: messages wait"
NO_TOKENS = "does not answer: nobody who has to show a token is served"
NO_SHARING = "does not answer: each process has its own answers"


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["alive"]


class Readiness(msgspec.Struct):
    """Whether requests can be served, and what is missing if not."""

    status: Literal["ready", "not ready"]
    database: str
    migrations: str
    redis: str | msgspec.UnsetType = msgspec.UNSET
    """Only where there is one. Where nobody is asked who they are, requests are served without it, too."""
    rabbitmq: str | msgspec.UnsetType = msgspec.UNSET
    """Only where there is one."""


@get("/health", gives={200: Health}, given=Health("alive"))
async def health(_request: Request) -> Answer:
    """Is this process alive?"""
    return Answer.of(Health("alive"))


@get("/ready", gives={200: Readiness, 503: Readiness}, given=Readiness("ready", "answers", "at head"))
async def ready(request: Request) -> Answer:
    """Can requests be served? The database answers within a second, its tables are not behind, RabbitMQ lets us in.

    So does Redis, where it holds the tokens. Neither is asked where it is not set.
    """
    (is_usable, database, migrations), redis, rabbitmq = await asyncio.gather(
        _database(request), _redis(request), _rabbitmq(request)
    )
    is_ready = is_usable and rabbitmq != NO_MESSAGES and redis != NO_TOKENS
    status: Literal["ready", "not ready"] = "ready" if is_ready else "not ready"
    return Answer.of(Readiness(status, database, migrations, redis, rabbitmq), 200 if is_ready else 503)


async def _database(request: Request) -> tuple[bool, str, str]:
    """Whether it can be used, and why not; how its tables stand."""
    try:
        async with asyncio.timeout(READY_SECONDS), request.db.connection() as conn:
            found = await revision_of(conn)
    except Exception as error:  # whatever it is, we are not ready, and the prober must be told
        note(reason=type(error).__name__)
        return False, _what_is_known(error), "unknown"
    if found == head():
        return True, "answers", "at head"
    if found is None or found in known():
        return False, "answers", "not at head: run kinfolk db upgrade head"
    return True, "answers", AHEAD


async def _redis(request: Request) -> str | msgspec.UnsetType:
    shelf = request.cache.shelf
    if shelf is None:
        return msgspec.UNSET
    without = NO_TOKENS if request.auth.is_required else NO_SHARING
    return "answers" if await shelf.is_reachable() else without


async def _rabbitmq(request: Request) -> str | msgspec.UnsetType:
    url = request.app.state.amqp.url
    if url is None:
        return msgspec.UNSET
    return "answers" if await is_reachable(url, READY_SECONDS) else NO_MESSAGES


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
