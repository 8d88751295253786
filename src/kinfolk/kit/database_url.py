"""Which database a command speaks to: the one that is named, else the embedded one for as long as it lasts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from kinfolk.kit.ending import FAILED, Ended, Missing, WrongSetting
from kinfolk.kit.problems import InvalidDocument, Problem
from kinfolk.kit.settings import CacheSettings, DatabaseSettings

if TYPE_CHECKING:
    from kinfolk.kit.db import Database
    from kinfolk.kit.embedded_postgres import EmbeddedPostgres

T = TypeVar("T")


@contextmanager
def database_url(settings: DatabaseSettings, user: str | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """The server named by `--pg-url`, else the embedded one for as long as this lasts; and what starts it again.

    Raises WrongSetting when `user` could not end the server that was started here as root.
    """
    if settings.pg_url is not None:
        likeness = "postgresql://user:password@host:port/name"
        _check_url("--pg-url", settings.pg_url, likeness, "postgresql", "postgres")
        yield settings.pg_url, lambda: None
        return
    from kinfolk.kit.embedded_postgres import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data_dir, binaries=settings.pg_bin)
    url = server.start()
    try:
        if user is not None and server.is_ours:
            raise WrongSetting(
                f"--user {user} could not look after the embedded PostgreSQL; give --pg-url, or let another process "
                "(kinfolk up) have started it"
            )
        yield url, partial(_start_again, server, url)
    finally:
        server.stop()


def _start_again(server: "EmbeddedPostgres", url: str) -> None:
    """Start the embedded server if it has died. Raises Ended where nobody could find it."""
    if server.is_running:
        return
    from kinfolk.kit import log

    log.write_line({"event": "database_died", "log": str(server.log_path)}, logging.WARNING)
    if server.start() != url:
        raise Ended(FAILED, "PostgreSQL died, and another program took its port meanwhile: start Kinfolk again")


def done_there(settings: DatabaseSettings, work: "Callable[[Database], Awaitable[T]]") -> T:
    """What a command's work gives that needs the tables themselves. Raises Ended for what it is refused."""
    from kinfolk.kit.db import Database, DatabaseAway
    from kinfolk.kit.revision import is_current

    async def run(url: str) -> T:
        async with Database(url, size=2) as db:
            async with db.connection() as conn:
                if not await is_current(conn):  # pragma: no branch  # the end of an async with is not followed
                    raise Ended(FAILED, "the tables are not those of this Kinfolk: kinfolk db upgrade head")
            return await work(db)

    with database_url(settings) as (url, _mend):
        try:
            return asyncio.run(run(url))
        except InvalidDocument as refusal:
            places = [f"  {bad.pointer}: {bad.detail}" for bad in refusal.facts["errors"]]
            raise Ended(FAILED, "\n".join([refusal.title(), *places])) from None
        except DatabaseAway as away:
            raise Missing(away.title()) from None
        except Problem as refusal:
            raise Ended(FAILED, refusal.title()) from None


def check_redis_url(settings: CacheSettings) -> None:
    """Raises WrongSetting."""
    if settings.redis_url is not None:
        likeness = "redis://user:password@host:port/number"
        _check_url("--redis-url", settings.redis_url, likeness, "redis", "rediss", "unix")


def _check_url(name: str, url: str, likeness: str, *schemes: str) -> None:
    """Raises WrongSetting, whose words do not quote the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in schemes and "://" in url and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise WrongSetting(f"{name} must look like {likeness}")
