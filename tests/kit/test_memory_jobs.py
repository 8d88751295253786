"""Jobs in memory, as tests of modules owe and do them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.example_jobs import MARKS, count, mark, parent

from kinfolk.kit.db import Connection, Database
from kinfolk.kit.ledger import JobState, Progress, cancel_job, find_job, list_jobs
from kinfolk.kit.memory_jobs import jobs_in_memory


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("memory")


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url, wait_seconds=2) as db:
        async with db.connection() as conn:
            await conn.execute(f"DROP TABLE IF EXISTS marks; TRUNCATE jobs; {MARKS}")
        yield db


@pytest.fixture
async def conn(db: Database) -> AsyncIterator[Connection]:
    async with db.connection() as conn:
        yield conn


async def marks(conn: Connection) -> list[str]:
    return [row[0] for row in await conn.fetch("SELECT word FROM marks ORDER BY word")]


def result(state: JobState) -> bytes:
    return bytes(state.result or b"")


async def test_what_is_owed_is_done_when_the_test_says_so(db: Database, conn: Connection) -> None:
    with jobs_in_memory(db) as memory:
        async with db.transaction() as owing:
            job_id = await parent.later(owing, word="child")
            counted = await count.later(owing, total=3)
            await memory.work_all()  # nothing yet: it is not committed
        assert await marks(conn) == []
        assert await conn.fetchval("SELECT count(*) FROM pgqueuer") == 0, "a worker could take it"
        await memory.work_all()
        assert await marks(conn) == ["child"]
    states = await list_jobs(conn)
    assert [state.kind for state in states] == ["tests.parent", "tests.count", "tests.mark"]
    assert {state.status for state in states} == {"done"}
    assert [state.job_id for state in states[:2]] == [job_id, counted]
    assert (result(states[1]), states[1].progress) == (b"3", Progress(3, 3))
    assert result(states[2]) == b'{"marked":"child"}'


async def test_what_is_rolled_back_is_not_owed(db: Database, conn: Connection) -> None:
    async def fail(owing: Connection, word: str) -> None:
        async with owing.transaction():
            await mark.later(owing, word=word)
            raise ZeroDivisionError

    with jobs_in_memory(db) as memory:
        with pytest.raises(ZeroDivisionError):
            await fail(conn, "all of it")
        async with db.transaction() as owing:
            with pytest.raises(ZeroDivisionError):
                await fail(owing, "a part of it")
            await mark.later(owing, word="kept")
        await memory.work_all()
    assert await marks(conn) == ["kept"]


async def test_what_fails_has_been_tried_as_often_as_it_may_and_left_nothing(db: Database, conn: Connection) -> None:
    with jobs_in_memory(db) as memory:
        async with db.transaction() as owing:
            badly = await mark.later(owing, word="bad", how="badly")
            no = await mark.later(owing, word="bad", how="no")
            unwanted = await mark.later(owing, word="bad")
        async with db.transaction() as changing:
            assert (await cancel_job(changing, unwanted)).status == "cancelled"
        await memory.work_all()
    assert await marks(conn) == []
    found = [await find_job(conn, job_id) for job_id in (badly, no, unwanted)]
    assert [(state.status, state.attempts) for state in found] == [("failed", 3), ("failed", 1), ("cancelled", 0)]
    assert found[1].error == "Not today. Tomorrow, perhaps."


async def test_afterwards_jobs_are_owed_to_the_queue_again(db: Database, conn: Connection) -> None:
    with jobs_in_memory(db):
        pass
    async with db.transaction() as owing:
        await mark.later(owing, word="x")
    assert await conn.fetchval("SELECT count(*) FROM pgqueuer") == 1
