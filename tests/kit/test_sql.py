"""Statements: compiled once, run by name."""

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, any_, bindparam, delete, func, insert, select
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit.db import Connection, Database
from kinfolk.kit.log import facts
from kinfolk.kit.problems import NotFound
from kinfolk.kit.sql import moment, param, sql

towns = Table("towns", MetaData(), Column("town_id", Integer, primary_key=True), Column("name", Text))

ADDED = sql(insert(towns).values(town_id=param("town_id"), name=param("name")))
ADDED_TWIN = sql(insert(towns).values(town_id=1, name=param("name")).returning(towns.c.town_id, towns.c.name))
NAMED = sql(select(towns.c.name).where(towns.c.town_id == param("town_id")).limit(1))
AMONG = sql(select(towns).where(towns.c.town_id == any_(param("ids", ARRAY(Integer)))).order_by(towns.c.town_id))
BETWEEN = sql(
    select(func.count()).where(towns.c.town_id >= param("low"), towns.c.town_id <= param("high"), param("low") < 100)
)
REMOVED = sql(delete(towns).returning(towns.c.town_id))
LOCKED = sql(select(towns.c.town_id).with_for_update())


@pytest.fixture
async def conn(db: Database) -> Connection:
    async with db.connection() as conn:
        await conn.execute("CREATE TEMPORARY TABLE towns (town_id int PRIMARY KEY, name text)")
        yield conn
        await conn.execute("DROP TABLE towns")


async def test_values_go_by_name_and_constants_by_themselves(conn: Connection) -> None:
    assert ADDED.text == "INSERT INTO towns (town_id, name) VALUES ($1::INTEGER, $2::VARCHAR)"
    await ADDED.execute(conn, name="Тверь", town_id=2)
    row = await ADDED_TWIN.fetchrow(conn, name="Кострома")
    assert row is not None
    assert (row["town_id"], row["name"]) == (1, "Кострома")
    assert await NAMED.fetchval(conn, town_id=2) == "Тверь"
    assert await NAMED.fetchval(conn, town_id=3) is None
    assert [tuple(row) for row in await AMONG.fetch(conn, ids=[1, 2, 7])] == [(1, "Кострома"), (2, "Тверь")]
    assert await BETWEEN.fetchval(conn, low=1, high=2) == 2


async def test_where_there_is_no_row_the_problem_is_raised(conn: Connection) -> None:
    absent = NotFound("there is no such town")
    await ADDED.execute(conn, name="Тверь", town_id=2)
    assert tuple(await NAMED.fetchrow_or(conn, absent, town_id=2)) == ("Тверь",)
    with pytest.raises(NotFound) as refused:
        await NAMED.fetchrow_or(conn, absent, town_id=3)
    assert refused.value is absent


async def test_many_rows_at_once(conn: Connection) -> None:
    await conn.execute("INSERT INTO towns SELECT number, 'x' FROM generate_series(0, 49) AS number")
    assert await BETWEEN.fetchval(conn, low=0, high=9) == 10
    await REMOVED.execute(conn)
    assert await BETWEEN.fetchval(conn, low=0, high=99) == 0


async def test_executing_reaches_every_row(db: Database) -> None:
    async with db.transaction() as mine:
        await mine.execute("CREATE TABLE towns (town_id int PRIMARY KEY); INSERT INTO towns VALUES (1), (2), (3)")
    try:
        async with db.transaction() as mine, db.connection() as other:
            await LOCKED.execute(mine)
            assert await other.fetch("SELECT town_id FROM towns FOR UPDATE SKIP LOCKED") == []
    finally:
        async with db.connection() as mine:
            await mine.execute("DROP TABLE towns")


async def test_a_missing_value_is_named(conn: Connection) -> None:
    with pytest.raises(KeyError, match="name"):
        await ADDED.execute(conn, town_id=1)


async def test_time_in_the_database_is_counted(conn: Connection) -> None:
    with facts() as noted:
        await NAMED.fetchval(conn, town_id=1)
        once = noted["db_ms"]
        await ADDED.execute(conn, town_id=2, name="x")
    assert 0 < once < noted["db_ms"]


def test_a_name_that_no_table_has_fails_at_once() -> None:
    with pytest.raises(AttributeError, match="nmae"):
        sql(select(towns.c.nmae))


def test_a_list_whose_length_only_the_call_knows_is_refused() -> None:
    with pytest.raises(AssertionError, match="any_"):
        sql(select(towns).where(towns.c.town_id.in_(bindparam("ids", expanding=True))))


async def test_a_moment_is_written_in_utc_to_the_second(conn: Connection) -> None:
    written = sql(select(moment(param("at", DateTime(timezone=True)))))
    at = datetime(2020, 11, 21, 18, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=3)))
    assert await written.fetchval(conn, at=at) == "2020-11-21T15:04:05+00:00"
    assert await written.fetchval(conn, at=None) is None
