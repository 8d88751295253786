"""Migrations: Alembic, found wherever the package lies, on asyncpg, once however many start together."""

import asyncio
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.autogenerate import render_python_code
from alembic.config import CommandLine, Config
from alembic.operations.ops import CreateIndexOp, CreateTableOp, MigrateOperation, UpgradeOps
from alembic.script import write_hooks
from alembic.util import CommandError
from mako.template import Template
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from kinfolk.kit.db import NOT_LET_IN
from kinfolk.kit.ending import FAILED, Ended, Missing, WrongSetting
from kinfolk.kit.revision import folder, head
from kinfolk.kit.sql import metadata

OLDEST_MAJOR = 15
CONNECT_SECONDS = 10
_NOTES = re.compile(r"^ *# ###.*\n", re.MULTILINE)
LOCK = 7_305_811  # the key of the advisory lock, any number that nobody else takes


def config(url: str, options: Any = None) -> Config:
    made = Config(cmd_opts=options, stdout=sys.stdout)
    made.set_main_option("script_location", str(folder()).replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.set_section_option("post_write_hooks", "hooks", "tidied")
    made.set_section_option("post_write_hooks", "tidied.type", "tidied")
    made.attributes["url"] = url
    return made


@write_hooks.register("tidied")
def _tidied(path: str, _options: Any) -> None:
    """Format a new migration, where there are the tools of development."""
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is not None:
        for words in (["check", "--fix"], ["format"]):
            subprocess.run([ruff, *words, "--quiet", path], check=True)


def first_of(tables: Sequence[Table], revision: str, message: str) -> str:
    """A revision after the head that makes these tables and their indexes, and no database is asked."""
    makes: list[MigrateOperation] = [CreateTableOp.from_table(table) for table in tables]
    makes += [CreateIndexOp.from_index(index) for table in tables for index in sorted(table.indexes, key=str)]
    up = UpgradeOps(makes)
    template = Template(filename=str(folder() / "script.py.mako"))  # noqa: S702  # makes Python of our own words
    text: str = template.render(
        message=message,
        imports="",
        up_revision=revision,
        down_revision=head(),
        branch_labels=None,
        depends_on=None,
        upgrades=render_python_code(up),
        downgrades=render_python_code(up.reverse()),
    )
    return _NOTES.sub("", text)


def upgrade(url: str) -> None:
    """Bring the database to the head of the history. Raises Missing and WrongSetting, as `run` does."""
    command.upgrade(config(url), "head")


def read_words(words: Sequence[str]) -> Namespace:
    """The words of Alembic's own command line (`upgrade head`, `revision -m …`). Raises WrongSetting."""
    line = CommandLine(prog="kinfolk db")
    try:
        order = line.parser.parse_args(list(words))
    except SystemExit as end:  # it has said what is wrong, and how it is used
        raise WrongSetting("kinfolk db takes the words of Alembic, such as: upgrade head") from end
    if not hasattr(order, "cmd"):
        raise WrongSetting(line.parser.format_help().rstrip())
    if getattr(order, "rev_id", "") is None:  # a new revision: they are numbered
        order.rev_id = f"{int(head()) + 1:04d}"
    return order


def run(url: str, order: Namespace) -> None:
    """Do what `read_words` read.

    Raises Missing when PostgreSQL does not let us in or is too old, WrongSetting when the URL cannot be, Ended when
    Alembic refuses.
    """
    order.raiseerr = True
    try:
        CommandLine().run_cmd(config(url, order), order)
    except CommandError as error:
        raise Ended(FAILED, f"kinfolk db: {error}") from error


def run_migrations(context: Any) -> None:
    """What `migrations/env.py` calls: all steps in one transaction, under a lock that lets one runner in at a time."""

    def steps(connection: Any) -> None:
        context.configure(
            connection=connection, target_metadata=metadata, include_name=_is_ours, compare_server_default=True
        )
        with context.begin_transaction():
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            context.run_migrations()

    async def connect_and_run() -> None:
        conn = await connect(context.config.attributes["url"])

        async def connected() -> Any:
            return conn

        engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(steps)
                await connection.commit()
        finally:
            await engine.dispose()

    asyncio.run(connect_and_run())


def _is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    """PgQueuer's tables are its own; what they are is compared by a test."""
    return kind != "table" or name is None or not name.startswith("pgqueuer")


async def connect(url: str) -> Any:
    """A connection to a server that is new enough. Raises Missing and WrongSetting."""
    try:
        conn = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise WrongSetting(f"--pg-url: {error}") from error
    except NOT_LET_IN as error:
        reason = str(error) or f"no answer within {CONNECT_SECONDS} seconds"
        raise Missing(f"PostgreSQL does not let us in: {reason}") from error
    version = conn.get_server_version()
    if version.major < OLDEST_MAJOR:
        await conn.close()
        raise Missing(
            f"PostgreSQL {version.major} is too old: Kinfolk needs {OLDEST_MAJOR} or newer. Upgrade it, or name "
            "another one with --pg-url"
        )
    return conn
