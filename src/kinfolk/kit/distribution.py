"""A Citus cluster: which tables are spread over its machines, and the statements that spread them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from kinfolk.kit.ending import Missing
from kinfolk.kit.migrate import connect
from kinfolk.kit.module import Module

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


def distribute(url: str, tables: Mapping[str, str]) -> list[str]:
    """Spread the tables that are not yet, in one transaction; returns what was done. Raises Missing without Citus."""
    return asyncio.run(_distribute(url, statements(tables)))


async def _distribute(url: str, spreading: Mapping[str, str]) -> list[str]:
    conn: Any = await connect(url)
    try:
        if not await conn.fetchval(HAS_CITUS):
            raise Missing(
                "this database has no Citus: let a superuser of each of its machines say\n"
                "  CREATE EXTENSION citus\n"
                "(with shared_preload_libraries = 'citus' in postgresql.conf), or see only what would be done: --dry-run"
            )
        async with conn.transaction():
            todo = [each for table, each in spreading.items() if not await conn.fetchval(IS_SPREAD, table)]
            for statement in todo:
                await conn.execute(statement)
        return todo
    finally:
        await conn.close()
