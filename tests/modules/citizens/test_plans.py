"""No plan depends on statistics: with none or stale ones, a large import is read as when they are fresh.

Autovacuum is off in these databases, as if it had not come by yet.
"""

import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx
import pytest
from tests.conftest import SERVERS, run_sql

from kinfolk.app import MODULES
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.http.application import application
from kinfolk.kit.statement import Statement
from kinfolk.modules.citizens import statements
from kinfolk.modules.citizens.correction import correct_citizen
from kinfolk.modules.citizens.imports import add_import
from kinfolk.modules.citizens.plain_correction import PlainCorrection, correct_citizens
from kinfolk.modules.citizens.register import Correction, Register

TABLES = ("imports", "citizens", "ties")
MANY = 10_000
PATHS = ("citizens", "citizens/birthdays", "towns/stat/percentile/age")
READ_BY_IMPORT = {
    "citizens": statements.CITIZENS_OF_IMPORT,
    "ties": statements.TIES_OF_IMPORT,
    "months": statements.BIRTH_MONTHS_AND_TIES,
    "births": statements.BIRTHS_OF_TOWNS,
}


def a_register(size: int) -> Register:
    """Everybody is tied to the next and to somebody far away."""
    rows: list[Any] = [
        (number, f"Town {number % 50}", "Street", "1", 1, f"Name {number}", date(1950 + number % 70, 1, 1), "male")
        for number in range(size)
    ]
    ties = {(number, min(number + step, size - 1)) for number in range(size) for step in (1, 4_321)}
    return Register(rows, sorted(ties))


async def add(db: Database, size: int) -> int:
    async with db.transaction() as conn:
        return await add_import(conn, a_register(size))


async def analyze(db: Database, command: str = "ANALYZE") -> None:
    async with db.connection() as conn:
        for table in TABLES:
            await conn.execute(f"{command} {table}")


@pytest.fixture(params=SERVERS)
def empty_url(request: pytest.FixtureRequest, make_database: Any) -> str:
    """A database of a test's own, where autovacuum does not come by."""
    url: str = make_database("plans", request.param)
    run_sql(url, *(f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in TABLES))
    return url


@pytest.fixture(params=[False, True], ids=["absent", "stale"])
async def crowded(request: pytest.FixtureRequest, empty_url: str) -> AsyncIterator[tuple[Database, int, int]]:
    """A small import, then many, the last a large one: statistics know the first alone, or nothing at all."""
    async with Database(empty_url, size=1) as db:  # one session's counts are all there are
        first = await add(db, 10)
        if request.param:
            await analyze(db)
        for _ in range(8):
            await add(db, 2_000)
        yield db, first, await add(db, MANY)


only_stale = pytest.mark.parametrize("crowded", [True], indirect=True, ids=["stale"])


async def plan(conn: Connection, statement: Statement, **values: Any) -> str:
    """As it is run: prepared, with the values of one call."""
    rows = await conn.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {statement.text}", *statement._arguments(values))
    return "\n".join(row[0] for row in rows)


async def test_a_new_import_is_read_by_its_index(crowded: tuple[Database, int, int]) -> None:
    db, _, large = crowded
    async with db.connection() as conn:
        for name, statement in READ_BY_IMPORT.items():
            found = await plan(conn, statement, import_id=large)
            assert set(re.findall(r"loops=(\d+)", found)) == {"1"}, name
            assert "Seq Scan" not in found, name
            assert f"Index Cond: (import_id = '{large}'::bigint)" in found, name


async def rows_read(db: Database) -> int:
    """From all tables and indexes, by whomever, until now."""
    async with db.connection() as conn:
        await conn.execute("SELECT pg_stat_force_next_flush()")
        return await conn.fetchval(
            "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = ANY ($1))"
            " + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = ANY ($1))",
            TABLES,
        )


async def test_a_new_import_is_answered_by_reading_no_more_than_an_analyzed_one(
    crowded: tuple[Database, int, int],
) -> None:
    db, _, large = crowded
    keeps_nothing = Cache(0)
    transport = httpx.ASGITransport(application(MODULES, db, keeps_nothing))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60) as client:

        async def read_for(path: str) -> int:
            before = await rows_read(db)
            assert (await client.get(f"/imports/{large}/{path}")).status_code == 200
            return await rows_read(db) - before

        fresh = {path: await read_for(path) for path in PATHS}
        await analyze(db)
        later = {path: await read_for(path) for path in PATHS}
    assert all(MANY <= read <= 5 * MANY for read in fresh.values()), fresh
    assert fresh == later


@only_stale
async def test_an_old_import_is_read_by_its_index(crowded: tuple[Database, int, int]) -> None:
    """Statistics that know one import only take it for the whole table."""
    db, first, _ = crowded
    async with db.connection() as conn:
        for name, statement in READ_BY_IMPORT.items():
            assert "Seq Scan" not in await plan(conn, statement, import_id=first), name


@only_stale
async def test_relatives_are_found_by_both_ends(crowded: tuple[Database, int, int]) -> None:
    """An import that the statistics do not know is no reason to read all its ties."""
    db, _, large = crowded
    async with db.connection() as conn:
        found = await plan(conn, statements.RELATIVES_OF_CITIZEN, import_id=large, citizen_id=5_000)
    for end in ("low_id", "high_id"):
        assert f"Index Cond: ((import_id = '{large}'::bigint) AND ({end} = '5000'::bigint))" in found


async def correct(db: Database, import_id: int) -> None:
    """Once as those go who wait together, once alone."""
    together = [PlainCorrection(import_id, citizen_id, {"town": "New"}) for citizen_id in range(8)]
    async with db.connection() as conn:
        assert None not in await correct_citizens(conn, together)
        await correct_citizen(conn, import_id, 1, Correction({}, [0, 1, 2]), lambda _: None)


async def test_plans_of_tiny_tables_serve_for_large_ones(empty_url: str) -> None:
    """A session plans a statement once, when an index may seem to be of no use: never may it read other imports."""
    async with Database(empty_url, size=1) as db:
        tiny = [await add(db, 8) for _ in range(40)]
        await analyze(db, "VACUUM ANALYZE")
        for import_id in tiny[:7]:
            await correct(db, import_id)
        await add(db, MANY)
        asked_of = await add(db, 50)
        before = await rows_read(db)
        await correct(db, asked_of)
        assert await rows_read(db) - before < MANY / 10


async def whole_scans(db: Database) -> int:
    async with db.connection() as conn:
        await conn.execute("SELECT pg_stat_force_next_flush()")
        return await conn.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'citizens'")


async def test_foreign_keys_are_checked_by_index(empty_url: str) -> None:
    """A session keeps its plan for checking a tie: made on a tiny table, it would scan the large one for each tie."""
    async with Database(empty_url, size=1) as db:
        await add(db, 3)
        await analyze(db, "VACUUM ANALYZE")
        for _ in range(12):
            await add(db, 2)
        before = await whole_scans(db)
        await add(db, 300)
        assert await whole_scans(db) == before
