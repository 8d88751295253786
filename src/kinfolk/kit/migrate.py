"""Migrations: Alembic, found wherever the package lies, on asyncpg, once however many start together."""

import asyncio
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from kinfolk.kit import db
from kinfolk.kit.settings import Missing

_NOT_LET_IN: tuple[type[Exception], ...] = (*db.AWAY, asyncpg.PostgresError)
LOCK = 7_305_811  # the key of the advisory lock, any number that nobody else takes


@cache
def folder() -> Path:
    """Where the history of migrations lies."""
    found = importlib.util.find_spec("kinfolk.migrations")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


def config(url: str, options: Any = None) -> Config:
    made = Config(cmd_opts=options)
    made.set_main_option("script_location", str(folder()).replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.attributes["url"] = url
    return made


@cache
def head() -> str | None:
    """The newest revision of the history."""
    return ScriptDirectory(str(folder())).get_current_head()


async def is_current(conn: db.Connection) -> bool:
    """Is the database at the head of the history?"""
    try:
        return bool(await conn.fetchval("SELECT version_num FROM alembic_version") == head())
    except asyncpg.UndefinedTableError:
        return False


def upgrade(url: str) -> None:
    """Bring the database to the head of the history. Raises Missing when it does not answer."""
    from alembic import command

    try:
        command.upgrade(config(url), "head")
    except _NOT_LET_IN as error:
        raise Missing(f"PostgreSQL does not let us in: {error}") from error


def run_words(url: str, words: Sequence[str]) -> int:
    """Alembic's own command line (`upgrade head`, `downgrade -1`, `revision -m …`); returns the exit code."""
    line = CommandLine(prog="kinfolk db")
    options = line.parser.parse_args(list(words))
    if not hasattr(options, "cmd"):
        line.parser.print_help()
        return 2
    try:
        line.run_cmd(config(url, options), options)
    except _NOT_LET_IN as error:
        raise Missing(f"PostgreSQL does not let us in: {error}") from error
    return 0


def run_migrations(context: Any) -> None:
    """What `migrations/env.py` calls: all steps in one transaction, under a lock that lets one runner in at a time."""
    url: str = context.config.attributes["url"]

    def steps(connection: Any) -> None:
        context.configure(connection=connection, target_metadata=db.metadata, compare_server_default=True)
        with context.begin_transaction():
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            context.run_migrations()

    async def connect_and_run() -> None:
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url, timeout=10), poolclass=NullPool
        )
        async with engine.connect() as connection:
            await connection.run_sync(steps)
            await connection.commit()
        await engine.dispose()

    asyncio.run(connect_and_run())
