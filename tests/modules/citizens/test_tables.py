"""What the database itself refuses, and that no failure leaves a part of an import behind."""

import json
import uuid
from collections.abc import Iterator
from datetime import date
from typing import Any

import asyncpg
import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, a_family, add, refusal, row_counts

from kinfolk.kit.db import Database
from kinfolk.modules.citizens.imports import add_import
from kinfolk.modules.citizens.register import Register, Row
from kinfolk.modules.citizens.tables import citizens, idempotent_imports, imports, ties

ROW: Row = (1, "Town", "Street", "1", 1, "Name", date(2000, 1, 1), "male")
FK, TWICE = asyncpg.ForeignKeyViolationError, asyncpg.UniqueViolationError
TIED = (FK, asyncpg.RestrictViolationError)  # since PostgreSQL 18 RESTRICT has a code of its own
COLUMNS = [
    (table.name, column.name)
    for table in (imports, citizens, ties, idempotent_imports)
    for column in table.c
    if column is not imports.c.owner_id  # an import may be nobody's
]


@pytest.fixture
async def conn(db: Database) -> Any:
    """An import of citizens 1 and 2 with a tie, undone at the end."""
    async with db.connection() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("INSERT INTO imports (import_id) VALUES (-1)")
        for citizen_id in (1, 2):
            await conn.execute(
                "INSERT INTO citizens VALUES ($1, $2, 't', 's', 'b', 1, 'n', now(), 'male')", -1, citizen_id
            )
        await conn.execute("INSERT INTO ties VALUES (-1, 1, 2), (-1, 2, 2)")
        await conn.execute("INSERT INTO idempotent_imports VALUES ('key', 'sum', -1)")
        yield conn
        await transaction.rollback()


@pytest.mark.parametrize(
    ("statement", "error", "constraint"),
    [
        ("INSERT INTO ties VALUES (-1, 2, 1)", asyncpg.CheckViolationError, "ck_ties_low_first"),
        ("INSERT INTO ties VALUES (-1, 1, 2)", TWICE, "pk_ties"),
        ("INSERT INTO ties VALUES (-1, 0, 1)", FK, "fk_ties_low"),
        ("INSERT INTO ties VALUES (-1, 1, 3)", FK, "fk_ties_high"),
        ("INSERT INTO ties VALUES (-2, 1, 1)", FK, "fk_ties_"),
        ("DELETE FROM citizens WHERE (import_id, citizen_id) = (-1, 1)", TIED, "fk_ties_low"),
        ("UPDATE citizens SET citizen_id = 3 WHERE import_id = -1 AND citizen_id = 2", FK, "fk_ties_"),
        ("INSERT INTO citizens SELECT * FROM citizens WHERE import_id = -1", TWICE, "pk_citizens"),
        ("INSERT INTO imports (import_id) VALUES (-1)", TWICE, "pk_imports"),
        ("INSERT INTO idempotent_imports VALUES ('key', 'x', 1)", TWICE, "pk_idempotent_imports"),
    ],
)
async def test_constraints(conn: Any, statement: str, error: type[Exception], constraint: str) -> None:
    with pytest.raises(error) as refused:
        await conn.execute(statement)
    assert refused.value.constraint_name.startswith(constraint)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_no_column_takes_null(conn: Any, table: str, column: str) -> None:
    with pytest.raises(asyncpg.NotNullViolationError) as refused:
        await conn.execute(f"UPDATE {table} SET {column} = NULL")
    assert refused.value.column_name == column


async def test_there_are_two_genders(conn: Any) -> None:
    await conn.execute("UPDATE citizens SET gender = 'female' WHERE import_id = -1")
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await conn.execute("UPDATE citizens SET gender = 'other' WHERE import_id = -1")


async def orphans(db: Database) -> int:
    async with db.connection() as conn:
        return await conn.fetchval(
            "SELECT count(*) FROM citizens LEFT JOIN imports USING (import_id) WHERE version IS NULL"
        )


def breaks_off() -> Iterator[Row]:
    yield ROW
    raise RuntimeError("in the middle")


@pytest.mark.parametrize(
    "register",
    [
        pytest.param(lambda: Register([ROW], [(1, 2)]), id="a tie to nobody"),
        pytest.param(lambda: Register([ROW, ROW], []), id="one twice"),
        pytest.param(lambda: Register(breaks_off(), []), id="the first COPY breaks off"),  # type: ignore[arg-type]
        pytest.param(lambda: Register([ROW, (0, *ROW[1:7], "other")], []), id="a row that the database refuses"),
    ],
)
async def test_nothing_is_left_of_a_failure_in_the_middle(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch, register: Any
) -> None:
    """Rules that let something wrong through are planted: the database or the COPY then fails midway."""
    before = await row_counts(db)
    key = {"idempotency-key": str(uuid.uuid4())}
    with monkeypatch.context() as planted:
        planted.setattr("kinfolk.modules.citizens.imports.glance_at_register", lambda _body, _today: register())
        answer = await client.post("/imports", json={"citizens": []}, headers=key)
    assert refusal(answer) == (500, "internal-error")
    assert await row_counts(db) == before
    assert (await client.post("/imports", json={"citizens": []}, headers=key)).status_code == 201


async def test_an_operation_that_is_rolled_back_leaves_nothing(db: Database) -> None:
    before = await row_counts(db)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with db.transaction() as conn:
            await add_import(conn, Register([ROW], [(1, 7)]))
    assert await row_counts(db) == before


async def test_no_operation_leaves_citizens_without_an_import(client: httpx.AsyncClient, db: Database) -> None:
    body = json.dumps({"citizens": a_family(_1=[2], _2=[1])}).encode()
    import_id = await add(client, a_family(_1=[2], _2=[1]))
    for content in (body, body, b'{"citizens":[]}'):  # the first, a retry, another body
        await client.post("/imports", content=content, headers={"idempotency-key": "orphans"})
    for change in ({"name": "A"}, {"relatives": []}, {"relatives": [9]}):
        await client.patch(f"/imports/{import_id}/citizens/1", json=change)
    assert await orphans(db) == 0
    async with db.connection() as conn:
        await conn.execute("INSERT INTO citizens VALUES (-9, 1, 't', 's', 'b', 1, 'n', now(), 'male')")
        found = await orphans(db)
        await conn.execute("DELETE FROM citizens WHERE import_id = -9")
    assert found == 1, "the question would have seen one"


async def test_a_citizen_stands_as_it_came(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, [a_citizen(5, birth_date="29.02.2000", gender="female", relatives=[5])])
    async with db.connection() as conn:
        row = await conn.fetchrow("SELECT * FROM citizens WHERE import_id = $1", import_id)
        assert tuple(row) == (
            import_id,
            5,
            "Москва",
            "Льва Толстого",
            "16к7стр5",
            7,
            "Иванов Иван Иванович",
            date(2000, 2, 29),
            "female",
        )
        assert await conn.fetchval("SELECT version FROM imports WHERE import_id = $1", import_id) == 1
