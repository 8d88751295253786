"""A worker in this process, on a database of its own: every way a job can end, and what is seen of it meanwhile."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.example_jobs import JOBS, MARKS, count, holding, mark, quick, timid

from kinfolk.kit import log, worker
from kinfolk.kit.attempts import AWAY_SECONDS, Again, Attempts
from kinfolk.kit.db import Database
from kinfolk.kit.ledger import JobState, Ledger, NoSuchJob, Status, cancel_job, find_job


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("worked")


@pytest.fixture(scope="module")
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url, size=8) as db:
        async with db.connection() as conn:
            await conn.execute(MARKS)
        yield db


@pytest.fixture(autouse=True)
def glancing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "GLANCE", worker.GLANCE / 10)


@asynccontextmanager
async def working(db: Database, at_once: int = 3) -> AsyncIterator[asyncio.Event]:
    """A worker; gives the event that ends it."""
    ending = asyncio.Event()
    ready = asyncio.Event()
    work = asyncio.ensure_future(worker.worker(db, JOBS, at_once)(ready.set, ending))
    await ready.wait()
    try:
        yield ending
    finally:
        ending.set()
        await asyncio.wait_for(work, 60)


class Lines(logging.Handler):
    """What is written on attempts at jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append({**record.__dict__.get("event", {}), "accident": record.exc_info is not None})

    def of(self, job_id: int) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("job_id") == job_id]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def owed(db: Database, job: Any, **arguments: Any) -> int:
    async with db.transaction() as conn:
        return await job.later(conn, **arguments)


async def reaches(db: Database, job_id: int, *statuses: Status) -> JobState:
    async with asyncio.timeout(60):
        while True:
            async with db.connection() as conn:
                state = await find_job(conn, job_id)
            if state.status in statuses:
                return state
            await asyncio.sleep(0.02)


async def marks(db: Database, word: str) -> int:
    async with db.connection() as conn:
        made: int = await conn.fetchval("SELECT count(*) FROM marks WHERE word = $1", word)
        return made


async def queued(db: Database) -> int:
    async with db.connection() as conn:
        left: int = await conn.fetchval("SELECT count(*) FROM pgqueuer")
        return left


async def picked(db: Database, job_ids: list[int]) -> None:
    """Wait until a worker has taken them all from the queue."""
    query = "SELECT count(*) FROM pgqueuer WHERE status = 'picked' AND id = ANY ($1)"
    async with asyncio.timeout(60), db.connection() as conn:
        while await conn.fetchval(query, job_ids) < len(job_ids):
            await asyncio.sleep(0.02)


async def test_a_job_is_done_and_says_so(db: Database, lines: Lines) -> None:
    with log.facts("asked-7"):
        job_id = await owed(db, mark, word="done")
    async with working(db):
        state = await reaches(db, job_id, "done")
    assert (state.attempts, bytes(state.result or b""), state.error) == (1, b'{"marked":"done"}', None)
    assert state.started_at is not None
    assert state.ended_at is not None
    assert state.created_at < state.started_at < state.ended_at
    assert await marks(db, "done") == 1
    assert await queued(db) == 0
    (line,) = lines.of(job_id)
    assert line | {"ms": 0, "db_ms": 0} == {
        "event": "job",
        "id": "asked-7",
        "name": "tests.mark",
        "job_id": job_id,
        "attempt": 1,
        "outcome": "done",
        "ms": 0,
        "db_ms": 0,
        "accident": False,
    }


async def test_an_accident_is_tried_again_after_each_pause_then_failed_and_kept(db: Database, lines: Lines) -> None:
    job_id = await owed(db, mark, word="badly", how="badly")
    async with working(db):
        state = await reaches(db, job_id, "failed")
    assert state.attempts == 3
    assert state.error == f"RuntimeError; the log has more under job_id={job_id}"
    assert await marks(db, "badly") == 0
    assert await queued(db) == 0
    assert [(line["attempt"], line["outcome"], line["accident"]) for line in lines.of(job_id)] == [
        (1, "retried", True),
        (2, "retried", True),
        (3, "failed", True),
    ]


@pytest.mark.parametrize(("how", "words"), [("no", "Not today. Tomorrow, perhaps."), ("plainly no", "Not today.")])
async def test_an_answer_is_final(db: Database, lines: Lines, how: str, words: str) -> None:
    job_id = await owed(db, mark, word="no", how=how)
    async with working(db):
        state = await reaches(db, job_id, "failed")
    assert (state.attempts, state.error) == (1, words)
    assert await marks(db, "no") == 0
    assert [(line["outcome"], line["accident"]) for line in lines.of(job_id)] == [("failed", False)]


async def test_not_now_is_no_final_answer(db: Database) -> None:
    job_id = await owed(db, mark, word="x", how="not yet")
    async with working(db):
        state = await reaches(db, job_id, "failed")
    assert (state.attempts, state.error) == (3, "Not yet.")


async def test_what_takes_too_long_is_stopped(db: Database) -> None:
    long_id = await owed(db, quick, seconds=60)
    short_id = await owed(db, quick, seconds=0)
    own_id = await owed(db, timid)
    async with working(db):
        assert (await reaches(db, long_id, "failed")).error == "it took longer than 0.2 seconds"
        assert (await reaches(db, short_id, "done")).error is None
        assert (await reaches(db, own_id, "failed")).error == f"TimeoutError; the log has more under job_id={own_id}"


async def test_how_far_it_is_is_seen_from_outside_before_it_ends(db: Database) -> None:
    job_id = await owed(db, count, total=5, seconds=60)
    async with working(db):
        while (state := await reaches(db, job_id, "running", "queued")).progress is None or state.progress.done < 5:
            await asyncio.sleep(0.02)
        assert (state.status, state.progress.done, state.progress.total) == ("running", 5, 5)
        async with db.transaction() as conn:
            await cancel_job(conn, job_id)
        await reaches(db, job_id, "cancelled")


async def test_one_that_waits_and_is_not_wanted_never_runs(db: Database) -> None:
    job_id = await owed(db, mark, word="unwanted")
    async with db.transaction() as conn:
        assert (await cancel_job(conn, job_id)).status == "cancelled"
    assert await queued(db) == 0
    last_id = await owed(db, mark, word="wanted")
    async with working(db):
        await reaches(db, last_id, "done")
        assert (await reaches(db, job_id, "cancelled")).attempts == 0
    assert (await marks(db, "unwanted"), await marks(db, "wanted")) == (0, 1)


async def test_one_under_way_that_is_not_wanted_is_stopped_and_undone(db: Database, lines: Lines) -> None:
    job_id = await owed(db, mark, word="stopped", seconds=60)
    async with working(db):
        await reaches(db, job_id, "running")
        async with db.transaction() as conn:
            assert (await cancel_job(conn, job_id)).status == "running"
        state = await reaches(db, job_id, "cancelled")
        assert (state.attempts, state.error) == (1, None)
        async with db.transaction() as conn:  # once more: it has ended already
            assert (await cancel_job(conn, job_id)).status == "cancelled"
        last_id = await owed(db, mark, word="after")
        await reaches(db, last_id, "done")
    assert await marks(db, "stopped") == 0
    assert await queued(db) == 0
    assert [line["outcome"] for line in lines.of(job_id)] == ["cancelled"]


async def test_one_whose_worker_died_and_that_is_not_wanted_is_not_begun_anew(db: Database) -> None:
    job_id = await owed(db, mark, word="left")
    async with db.connection() as conn:
        await conn.execute("UPDATE jobs SET status = 'running', attempts = 1 WHERE job_id = $1", job_id)
    async with db.transaction() as conn:
        assert (await cancel_job(conn, job_id)).status == "running"
    async with working(db):
        assert (await reaches(db, job_id, "cancelled")).attempts == 2
    assert await marks(db, "left") == 0


async def test_one_that_kills_its_workers_is_given_up(db: Database) -> None:
    job_id = await owed(db, mark, word="killer")
    async with db.connection() as conn:
        await conn.execute("UPDATE jobs SET status = 'running', attempts = 20 WHERE job_id = $1", job_id)
    async with working(db):
        state = await reaches(db, job_id, "failed", "done")
    assert (state.status, state.error) == ("failed", "its worker died at each of 20 attempts")


async def test_one_that_is_done_is_not_done_again_where_the_queue_did_not_know(db: Database, lines: Lines) -> None:
    job_id = await owed(db, mark, word="known")
    async with db.connection() as conn:
        await conn.execute("UPDATE jobs SET status = 'done', ended_at = now() WHERE job_id = $1", job_id)
    async with working(db):
        async with asyncio.timeout(60):
            while await queued(db):
                await asyncio.sleep(0.02)
    assert await marks(db, "known") == 0
    assert lines.of(job_id) == []


async def test_what_another_worker_has_begun_anew_leaves_nothing(db: Database, lines: Lines) -> None:
    async with working(db):
        async with holding(db):
            job_id = await owed(db, mark, word="overtaken", is_held=True)
            await reaches(db, job_id, "running")
            async with db.connection() as conn:
                await conn.execute("UPDATE jobs SET attempts = attempts + 1 WHERE job_id = $1", job_id)
        async with asyncio.timeout(60):
            while not lines.of(job_id):
                await asyncio.sleep(0.02)
        assert [line["outcome"] for line in lines.of(job_id)] == ["overtaken"]
        assert await marks(db, "overtaken") == 0
        async with db.connection() as conn:  # the queue still has it, for the one who overtook may die
            assert await conn.fetchval("SELECT count(*) FROM pgqueuer WHERE id = $1", job_id) == 1
            await conn.execute("DELETE FROM pgqueuer WHERE id = $1", job_id)


async def test_no_more_at_once_than_there_are_places(db: Database) -> None:
    async with db.transaction() as conn:
        ids = await mark.later_each(conn, [{"word": "many", "seconds": 0.3}] * 6)
    async with working(db, at_once=2):
        most = 0
        async with asyncio.timeout(60):
            while True:
                async with db.connection() as conn:
                    rows = await conn.fetch("SELECT status, count(*) FROM jobs WHERE job_id = ANY($1) GROUP BY 1", ids)
                by_status = {row[0]: row[1] for row in rows}
                most = max(most, by_status.get("running", 0))
                if by_status.get("done") == 6:
                    break
                await asyncio.sleep(0.02)
    assert most == 2


async def test_what_is_left_at_the_end_stays_owed(db: Database) -> None:
    """The work under way is finished, what waits for a place is given back as it was."""
    async with working(db, at_once=1) as ending, holding(db):
        async with db.transaction() as conn:
            under_way, waiting = await mark.later_each(conn, [{"word": "last", "is_held": True}] * 2)
        await reaches(db, under_way, "running")
        await picked(db, [under_way, waiting])
        ending.set()
    async with db.connection() as conn:
        assert (await find_job(conn, under_way)).status == "done"
        left = await find_job(conn, waiting)
        assert (left.status, left.attempts) == ("queued", 0)
        assert await conn.fetchval("SELECT status FROM pgqueuer WHERE id = $1", waiting) == "queued"
        await conn.execute("TRUNCATE pgqueuer")


async def test_a_worker_whose_time_is_over_gives_back_what_is_under_way(db: Database, lines: Lines) -> None:
    """And what waits for a place, as it was."""
    async with db.transaction() as conn:
        job_id, waiting_id = await mark.later_each(conn, [{"word": "over", "seconds": 60}] * 2)
    ids = [job_id, waiting_id]
    work = asyncio.ensure_future(worker.worker(db, JOBS, 1)(lambda: None, asyncio.Event()))
    await reaches(db, job_id, "running")
    await picked(db, ids)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert [(await reaches(db, each, "queued")).attempts for each in ids] == [1, 0]
    assert [line["outcome"] for line in lines.of(job_id)] == ["given back"]
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT status FROM pgqueuer WHERE id = ANY ($1)", ids)
        assert [row["status"] for row in rows] == ["queued", "queued"]
        await conn.execute("TRUNCATE pgqueuer")


async def test_a_worker_outlives_the_loss_of_its_connections(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STALE", worker.STALE / 10)
    async with working(db):
        async with holding(db) as conn:
            job_id = await owed(db, mark, word="cut", is_held=True)
            await reaches(db, job_id, "running")
            await conn.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        state = await reaches(db, job_id, "done")
        assert state.attempts > 1
        later_id = await owed(db, mark, word="later")
        await reaches(db, later_id, "done")
    assert (await marks(db, "cut"), await marks(db, "later")) == (1, 1)


async def test_a_connection_that_is_lost_is_no_accident_of_the_job(db: Database, lines: Lines) -> None:
    cut_off = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with working(db):
        async with asyncio.timeout(60), holding(db), db.connection() as conn:
            job_id = await owed(db, mark, word="lost", is_held=True)
            while not await conn.fetchval(cut_off):
                await asyncio.sleep(0.02)
        assert (await reaches(db, job_id, "done")).attempts == 2
    assert [line["outcome"] for line in lines.of(job_id)] == ["held", "done"]
    assert await marks(db, "lost") == 1
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT accidents FROM jobs WHERE job_id = $1", job_id) == 0


async def test_what_the_queue_holds_as_failed_is_taken_up_again(db: Database) -> None:
    job_id = await owed(db, mark, word="held")
    async with db.connection() as conn:
        await conn.execute("UPDATE pgqueuer SET status = 'failed' WHERE id = $1", job_id)
    async with working(db):
        await reaches(db, job_id, "done")


async def test_there_is_no_job_of_a_number_that_was_never_given(db: Database) -> None:
    async with db.transaction() as conn:
        with pytest.raises(NoSuchJob):
            await cancel_job(conn, 2**40)


async def test_one_that_cannot_be_begun_is_none_the_worse_for_it(lines: Lines) -> None:
    async with Database("postgresql://kinfolk@127.0.0.1:1/nobody", wait_seconds=1) as away:
        with pytest.raises(Again) as again:
            await Attempts(away, Ledger()).run(mark, 7, lambda: False)
    assert again.value.pause_seconds == AWAY_SECONDS
    assert [(line["event"], line["accident"]) for line in lines.of(7)] == [("not_begun", False)]
