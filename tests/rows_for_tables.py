"""A row in every table of a database, whatever its columns, and what the tables hold."""

import asyncio
import json
from typing import Any

import asyncpg

# The nearest value of each type; the same number everywhere, so that foreign keys find what they name.
VALUES = {
    "bool": "true",
    "bytea": "'\\x01'",
    "date": "'2000-01-01'",
    "interval": "'1 second'",
    "json": "'{}'",
    "jsonb": "'{}'",
    "timestamptz": "'2000-01-01T00:00:00Z'",
    "uuid": "'00000000-0000-4000-8000-000000000001'",
} | dict.fromkeys(("int2", "int4", "int8", "numeric", "float8"), "1")
COLUMNS = """
    SELECT table_name::text, column_name::text, udt_name::text, data_type::text FROM information_schema.columns
    WHERE table_schema = 'public' AND is_generated = 'NEVER'
      AND table_name <> 'alembic_version' ORDER BY ordinal_position
"""

Contents = dict[str, list[dict[str, Any]]]


def fill(url: str) -> None:
    """Put a row into every table that is empty; those that need another's row come after it."""
    asyncio.run(_fill(url))


def contents(url: str) -> Contents:
    """All rows of all tables but Alembic's own."""
    return asyncio.run(_contents(url))


async def _fill(url: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        statements = [_insert(table, columns) for table, columns in (await _tables(conn)).items()]
        while statements:
            waiting = []
            for statement in statements:
                try:
                    await conn.execute(statement)
                except asyncpg.ForeignKeyViolationError:
                    waiting.append(statement)
            assert len(waiting) < len(statements), f"no row fits: {waiting[0]}"
            statements = waiting
    finally:
        await conn.close()


async def _tables(conn: Any) -> dict[str, dict[str, str]]:
    """The columns of each table, and a value for each."""
    tables: dict[str, dict[str, str]] = {}
    for table, column, udt, kind in await conn.fetch(COLUMNS):
        value = f"(enum_range(NULL::{udt}))[1]" if kind == "USER-DEFINED" else VALUES.get(udt, "'x'")
        tables.setdefault(table, {})[column] = "'{}'" if kind == "ARRAY" else value
    return tables


def _insert(table: str, columns: dict[str, str]) -> str:
    names, values = (", ".join(each) for each in (map(json.dumps, columns), columns.values()))
    return (
        f'INSERT INTO "{table}" ({names}) OVERRIDING SYSTEM VALUE SELECT {values}'
        f' WHERE NOT EXISTS (SELECT FROM "{table}")'
    )


async def _contents(url: str) -> Contents:
    conn = await asyncpg.connect(url)
    try:
        return {
            table: [json.loads(row[0]) for row in await conn.fetch(f'SELECT to_jsonb(each)::text FROM "{table}" each')]
            for table in await _tables(conn)
        }
    finally:
        await conn.close()
