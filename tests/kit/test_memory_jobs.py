"""Jobs in memory, as tests of modules owe and do them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.example_jobs import MARKS, count, mark, parent

from kinfolk.kit.db import Database
from kinfolk.kit.memory_jobs import jobs_in_memory


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("memory")


@pytest.fixture(scope="module")
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url, wait_seconds=2) as db:
        async with db.connection() as conn:
            await conn.execute(MARKS)
        yield db


async def test_what_is_owed_is_done_when_the_test_says_so(db: Database) -> None:
    with jobs_in_memory(db) as memory:
        async with db.transaction() as conn:
            job_id = await parent.later(conn, word="child")
            counted = await count.later(conn, total=3)
        async with db.connection() as conn:
            assert await conn.fetchval("SELECT count(*) FROM jobs") == 0
            await memory.work_all()
            assert await conn.fetchval("SELECT count(*) FROM marks WHERE word = 'child'") == 1
    assert memory.jobs[job_id].status == "done"
    assert (memory.jobs[counted].result, memory.jobs[counted].progress) == ("3", (3, 3))
    child = memory.jobs[counted + 1]
    assert (child.job, child.status, child.result) == (mark, "done", '{"marked":"child"}')


async def test_what_fails_has_been_tried_as_often_as_it_may_and_left_nothing(db: Database) -> None:
    with jobs_in_memory(db) as memory:
        async with db.transaction() as conn:
            badly = await mark.later(conn, word="bad", how="badly")
            no = await mark.later(conn, word="bad", how="no")
        await memory.work_all()
        async with db.connection() as conn:
            assert await conn.fetchval("SELECT count(*) FROM marks WHERE word = 'bad'") == 0
    assert (memory.jobs[badly].status, memory.jobs[badly].attempts) == ("failed", 3)
    assert (memory.jobs[no].status, memory.jobs[no].attempts) == ("failed", 1)
    assert memory.jobs[no].error == "Not today. Tomorrow, perhaps."


async def test_afterwards_jobs_are_owed_to_the_database_again(db: Database) -> None:
    with jobs_in_memory(db):
        pass
    async with db.transaction() as conn:
        await mark.later(conn, word="x")
        assert await conn.fetchval("SELECT count(*) FROM jobs") == 1
