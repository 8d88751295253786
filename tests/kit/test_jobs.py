"""Owing jobs: with the transaction, or not at all."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.example_jobs import MARKS, count, mark, parent

from kinfolk.kit import log
from kinfolk.kit.db import Database
from kinfolk.kit.jobs import progress
from kinfolk.kit.ledger import NoSuchJob, find_job, list_jobs
from kinfolk.kit.log import Origin

WAITING = "SELECT count(*) FROM pgqueuer WHERE status = 'queued'"


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("owed")


@pytest.fixture(scope="module")
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url) as db:
        async with db.connection() as conn:
            await conn.execute(MARKS)
        yield db


async def test_a_job_is_its_operation_too(db: Database) -> None:
    async with db.transaction() as conn:
        assert await mark(conn, word="at once") == {"marked": "at once"}
        assert await conn.fetchval("SELECT count(*) FROM marks WHERE word = 'at once'") == 1
    assert mark.__doc__ is not None
    assert mark.__doc__.startswith("Make a mark")


async def test_commit_keeps_it(db: Database) -> None:
    async with db.transaction() as conn:
        job_id = await mark.later(conn, word="kept")
    async with db.connection() as conn:
        kept = await find_job(conn, job_id)
        assert (kept.kind, kept.status, kept.attempts, kept.progress, kept.result) == (
            "tests.mark",
            "queued",
            0,
            None,
            None,
        )
        assert await conn.fetchval("SELECT count(*) FROM pgqueuer WHERE id = $1 AND status = 'queued'", job_id) == 1


async def test_rollback_forgets_it_in_the_ledger_and_in_the_queue(db: Database) -> None:
    """The queue must not take another connection than the one whose transaction is rolled back."""
    async with db.connection() as conn:
        before = await conn.fetchval(WAITING)
        transaction = conn.transaction()
        await transaction.start()
        job_id = await mark.later(conn, word="forgotten")
        async with db.connection() as other:  # nobody sees it before it is committed, either
            assert await other.fetchval(WAITING) == before
        await transaction.rollback()
        assert await conn.fetchval(WAITING) == before
        with pytest.raises(NoSuchJob):
            await find_job(conn, job_id)


async def test_without_a_transaction_nothing_is_owed(db: Database) -> None:
    async with db.connection() as conn:
        before = await conn.fetchval(WAITING)
        with pytest.raises(AssertionError, match="in a transaction"):
            await mark.later(conn, word="ghost")
        assert await conn.fetchval(WAITING) == before


@pytest.mark.parametrize(
    "arguments", [{}, {"word": 7}, {"word": "x", "word_too": "y"}, {"word": "x", "seconds": "long"}]
)
async def test_arguments_that_it_does_not_take_are_refused_when_owed(db: Database, arguments: dict[str, Any]) -> None:
    async with db.transaction() as conn:
        with pytest.raises(msgspec.ValidationError):
            await mark.later(conn, **arguments)


async def test_many_are_owed_at_the_cost_of_one_each_with_its_request(db: Database) -> None:
    async with db.transaction() as conn:
        ids = await count.later_each(
            conn, [{"total": n} for n in range(3)], origins=[Origin("a", "user:7"), Origin(), Origin("c")]
        )
        rows = await conn.fetch(
            "SELECT arguments, request_id, by FROM jobs WHERE job_id = ANY($1) ORDER BY job_id", ids
        )
    assert [tuple(row) for row in rows] == [
        ('{"total":0,"seconds":0.0}', "a", "user:7"),
        ('{"total":1,"seconds":0.0}', None, None),
        ('{"total":2,"seconds":0.0}', "c", None),
    ]
    assert sorted(ids) == ids


async def test_the_request_goes_with_it(db: Database) -> None:
    with log.facts("asked-1", "user:7"):
        async with db.transaction() as conn:
            job_id = await mark.later(conn, word="x")
            row = await conn.fetchrow("SELECT request_id, by FROM jobs WHERE job_id = $1", job_id)
    assert tuple(row) == ("asked-1", "user:7")


async def test_it_can_be_put_off(db: Database) -> None:
    async with db.transaction() as conn:
        job_id = await mark.later(conn, word="x", after=datetime.now(UTC) + timedelta(hours=1))
        past_id = await mark.later(conn, word="x", after=datetime(2020, 1, 1, tzinfo=UTC))
        wait = "SELECT execute_after - now() FROM pgqueuer WHERE id = $1"
        assert timedelta(minutes=59) < await conn.fetchval(wait, job_id) <= timedelta(hours=1)
        assert await conn.fetchval(wait, past_id) == timedelta()


async def test_listing_by_kind_status_and_number(db: Database) -> None:
    async with db.transaction() as conn:
        first, second, third = await parent.later_each(conn, [{"word": word} for word in "abc"])
        assert [job.job_id for job in await list_jobs(conn, kind="tests.parent", after=first)] == [second, third]
        assert [job.job_id for job in await list_jobs(conn, kind="tests.parent", limit=1, after=first)] == [second]
        assert await list_jobs(conn, kind="tests.parent", status="done") == []
        assert len(await list_jobs(conn, kind="tests.parent", status="queued", after=first - 1)) == 3


async def test_progress_outside_a_job_is_nothing(db: Database) -> None:
    async with db.connection() as conn:
        before = await list_jobs(conn)
        assert await progress(1, 2) is None  # type: ignore[func-returns-value]
        assert await list_jobs(conn) == before
