"""What is done for students later: welcoming, and touching by the clock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from kinfolk.kit import log
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.log import Origin
from kinfolk.kit.memory_jobs import jobs_in_memory
from kinfolk.modules.students import students
from kinfolk.modules.students.jobs import touch, welcome

DAY_OLD = "UPDATE students SET updated_at = now() - interval '1 day'"


async def added(db: Database, *names: str) -> list[int]:
    async with db.transaction() as conn:
        new = [(students.NewStudent(name), Origin()) for name in names]
        return [student.student_id for student in await students.add(conn, new)]


async def rows(db: Database, query: str, *arguments: Any) -> list[Any]:
    async with db.connection() as conn:
        return [row[0] for row in await conn.fetch(query, *arguments)]


async def owed(db: Database, kind: str, argument: str) -> list[int]:
    query = f"SELECT (arguments->>'{argument}')::bigint FROM jobs WHERE kind = $1 ORDER BY job_id"
    return await rows(db, query, kind)


@pytest.fixture
async def aged(db: Database) -> AsyncIterator[Connection]:
    """Nobody but those added from now on, none of whom was touched today."""
    async with db.connection() as conn:
        await conn.execute("TRUNCATE students")
        yield conn


async def old(db: Database) -> list[int]:
    """Who was not touched today."""
    return await rows(
        db, "SELECT student_id FROM students WHERE updated_at < now() - interval '1 hour' ORDER BY student_id"
    )


async def test_who_is_added_is_owed_a_welcome(client: httpx.AsyncClient, db: Database) -> None:
    answers = await asyncio.gather(*(client.post("/api/v1/students", json={"name": "Anna"}) for _ in range(7)))
    numbers = [answer.json()["result"]["id"] for answer in answers]
    welcomes = await owed(db, "students.welcome", "student_id")
    assert [welcomes.count(number) for number in numbers] == [1] * 7


async def test_who_is_not_added_is_not_welcomed(db: Database) -> None:
    before = await owed(db, "students.welcome", "student_id")

    async def fail() -> None:
        async with db.transaction() as conn:
            await students.add(conn, [(students.NewStudent("Anna"), Origin())])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await owed(db, "students.welcome", "student_id") == before


async def test_a_welcome_happens_once(db: Database) -> None:
    (number,) = await added(db, "Anna")
    moments = []
    for _ in range(2):
        async with db.transaction() as conn:
            await welcome(conn, student_id=number)
        moments += await rows(db, "SELECT welcomed_at FROM students WHERE student_id = $1", number)
    assert moments[0] is not None
    assert moments[1] == moments[0]


async def test_every_active_student_is_touched(aged: Connection, db: Database) -> None:
    numbers = await added(db, "Anna", "Vera", "Nina")
    await students.remove(aged, numbers[1])
    await aged.execute(DAY_OLD)
    async with db.transaction() as conn:
        assert await touch(conn) == []
    assert await old(db) == [numbers[1]]


async def test_nobody_is_touched_where_nobody_is(aged: Connection, db: Database) -> None:
    async with db.transaction() as conn:
        assert await touch(conn) == []


async def test_the_rest_is_owed(aged: Connection, db: Database) -> None:
    numbers = await added(db, "Anna", "Vera", "Nina", "Olga", "Rita")
    await aged.execute(DAY_OLD)
    with jobs_in_memory(db) as jobs:
        async with db.transaction() as conn:
            assert await touch(conn, at_once=3) == []
        assert await old(db) == numbers[3:]
        assert (await owed(db, "students.touch", "above"))[-1] == numbers[2]
        assert (await owed(db, "students.touch", "at_once"))[-1] == 3
        owed_before = len(await owed(db, "students.touch", "above"))
        await jobs.work_all()
    assert await old(db) == []
    assert len(await owed(db, "students.touch", "above")) == owed_before


async def test_who_is_being_changed_is_passed_by(aged: Connection, db: Database) -> None:
    numbers = await added(db, "Anna", "Vera")
    await aged.execute(DAY_OLD)
    async with aged.transaction():
        await aged.execute("SELECT FROM students WHERE student_id = $1 FOR UPDATE", numbers[0])
        async with db.transaction() as conn:
            assert await touch(conn) == []
        assert await old(db) == [numbers[0]]


@pytest.mark.parametrize("bad", [[0], [6], [2, 3, 5], list(range(7))])
async def test_one_bad_row_does_not_stop_the_rest(aged: Connection, db: Database, bad: Sequence[int]) -> None:
    numbers = await added(db, *(f"{'bad' if place in bad else 'good'} {place}" for place in range(7)))
    await aged.execute(DAY_OLD)
    await aged.execute("ALTER TABLE students ADD CONSTRAINT planted CHECK (name !~ 'bad') NOT VALID")
    try:
        async with db.transaction() as conn:
            with log.facts() as facts:
                failed = await touch(conn)
    finally:
        await aged.execute("ALTER TABLE students DROP CONSTRAINT planted")
    wrong = [numbers[place] for place in bad]
    assert failed == wrong
    assert (facts["touched"], facts["failed"]) == (7 - len(bad), len(bad))
    assert await old(db) == wrong
