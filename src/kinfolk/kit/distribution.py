"""A Citus cluster: which tables are spread over its machines, and the statements that spread them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from kinfolk.kit.ending import OK, Missing, WrongSetting
from kinfolk.kit.migrate import connect
from kinfolk.kit.module import Module

Database: TypeAlias = AbstractContextManager[tuple[str, Callable[[], None]]]
"""The URL of a server for as long as it is used, and what starts it again."""

HAS_CITUS = "SELECT count(*) FROM pg_extension WHERE extname = 'citus'"
IS_SPREAD = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid = $1::text::regclass AND partmethod = 'h'"


def distributed(modules: Sequence[Module]) -> Mapping[str, str]:
    """Each table that is spread, and by which column. The others stay on the coordinator.

    Those are written with others' rows in one transaction or without an import, and joined with nothing: a reference
    table would be written on every machine each time.
    """
    return {table: column for module in modules for table, column in module.distributed_by.items()}


def statements(tables: Mapping[str, str]) -> dict[str, str]:
    """What spreads each table, in this order. Those of one column lie together, so that no transaction crosses
    machines."""
    firsts: dict[str, str] = {}
    spreading = {}
    for table, column in tables.items():
        together = f", colocate_with => '{firsts[column]}'" if column in firsts else ""
        firsts.setdefault(column, table)
        spreading[table] = f"SELECT create_distributed_table('{table}', '{column}'{together})"
    return spreading


def run(words: Sequence[str], modules: Sequence[Module], database: Database) -> int:
    """`kinfolk db distribute [--dry-run]`: spread the tables that are not yet, in one transaction, and say how.

    Raises Missing without Citus, and WrongSetting.
    """
    spreading = statements(distributed(modules))
    if list(words) == ["--dry-run"]:
        done = list(spreading.values())
    elif words:
        raise WrongSetting("kinfolk db distribute takes --dry-run, or nothing")
    else:
        with database as (url, _mend):
            done = asyncio.run(_distribute(url, spreading))
    for statement in done:
        print(f"{statement};")  # noqa: T201  # what a command was asked for
    return OK


async def _distribute(url: str, spreading: Mapping[str, str]) -> list[str]:
    conn: Any = await connect(url)
    try:
        if not await conn.fetchval(HAS_CITUS):
            raise Missing(
                "this database has no Citus: let a superuser of each of its machines say\n"
                "  CREATE EXTENSION citus\n"
                "with shared_preload_libraries = 'citus' in postgresql.conf; --dry-run only shows what would be done"
            )
        async with conn.transaction():
            todo = [each for table, each in spreading.items() if not await conn.fetchval(IS_SPREAD, table)]
            for statement in todo:
                await conn.execute(statement)
        return todo
    finally:
        await conn.close()
