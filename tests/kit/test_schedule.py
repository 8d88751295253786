"""When ticks are due, and owing them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.example_jobs import mark, ticked
from tests.running import kinfolk

from kinfolk.kit import schedule
from kinfolk.kit.db import Database
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.schedule import Tick, list_ticks, scheduler

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
EVERY_SECOND = Tick("second", "* * * * * *", ticked, missed="catch up")


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("ticked")


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url, wait_seconds=2) as db:
        async with db.connection() as conn:
            await conn.execute("TRUNCATE ticks, jobs, pgqueuer")
        yield db


async def run_until(db: Database, ticks: list[Tick], count: int) -> None:
    """Run a scheduler until so many ticks have been owed."""
    ending = asyncio.Event()
    work = asyncio.ensure_future(scheduler(db, ticks)(lambda: None, ending))
    async with asyncio.timeout(60), db.connection() as conn:
        while await conn.fetchval("SELECT count(*) FROM ticks") < count:
            await asyncio.sleep(0.05)
    ending.set()
    await work


def test_what_was_missed_is_skipped_or_caught_up() -> None:
    last = NOON - timedelta(hours=1)
    skips = Tick("t", "* * * * *", ticked)
    catches_up = Tick("t", "* * * * *", ticked, missed="catch up")
    assert skips.coming(last, NOON) == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert catches_up.coming(last, NOON) == datetime(2026, 11, 22, 11, 1, tzinfo=UTC)
    just_now = NOON - timedelta(seconds=10)
    assert (
        skips.coming(just_now, NOON) == catches_up.coming(just_now, NOON) == datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("line", ["nonsense", "61 * * * *", "", "* * * *", "0 0 31 2 *", None])
def test_a_bad_line_stops_at_load_with_its_name(db: Database, line: Any) -> None:
    with pytest.raises(WrongSetting, match=r"the tick students\.touch "):
        scheduler(db, [EVERY_SECOND, Tick("students.touch", line, ticked)])


def test_two_of_one_name_stop_at_load(db: Database) -> None:
    with pytest.raises(WrongSetting, match="two ticks named second"):
        scheduler(db, [EVERY_SECOND, EVERY_SECOND])


async def test_a_tick_that_never_was_owed_begins_now(db: Database) -> None:
    begun = datetime.now(UTC)
    await run_until(db, [EVERY_SECOND], 2)
    async with db.connection() as conn:
        newest, oldest = (await list_ticks(conn, name="second"))[:2]
        assert begun - timedelta(seconds=1) < oldest.due_at < newest.due_at
        assert newest.due_at - oldest.due_at == timedelta(seconds=1)
        assert await list_ticks(conn, name="another") == []
        assert await list_ticks(conn, limit=1) == [newest]
        rows = await conn.fetch("SELECT job_id, kind, request_id FROM jobs")
    assert {row["job_id"] for row in rows} >= {newest.job_id, oldest.job_id}
    assert {row["kind"] for row in rows} == {"tests.ticked"}
    assert all(len(row["request_id"]) == 16 for row in rows)


async def test_one_that_was_owed_before_is_caught_up_on_from_there(db: Database) -> None:
    last = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=20)
    async with db.transaction() as conn:
        assert await schedule.owe(conn, EVERY_SECOND, last) is not None
    await run_until(db, [EVERY_SECOND], 20)
    async with db.connection() as conn:
        moments = sorted(tick.due_at for tick in await list_ticks(conn))
    assert moments[:20] == [last + timedelta(seconds=n) for n in range(20)]


async def test_one_that_cannot_be_owed_does_not_hold_up_the_others(db: Database) -> None:
    cannot = Tick("cannot", "* * * * * *", mark, arguments={"word": 7})
    can = Tick("can", "* * * * * *", mark, arguments={"word": "ticked"})
    await run_until(db, [cannot, can], 2)
    async with db.connection() as conn:
        assert {tick.name for tick in await list_ticks(conn)} == {"can"}
        assert await conn.fetchval("SELECT arguments ->> 'word' FROM jobs LIMIT 1") == "ticked"


async def test_a_scheduler_outlives_the_loss_of_its_connections(db: Database) -> None:
    ending = asyncio.Event()
    async with Database("postgresql://kinfolk@127.0.0.1:1/nobody", wait_seconds=1) as away:
        work = asyncio.ensure_future(scheduler(away, [EVERY_SECOND])(lambda: None, ending))
        await asyncio.sleep(0.3)
        assert not work.done()
        ending.set()
        await work


def test_the_next_runs_are_shown() -> None:
    done = kinfolk("schedule", "--list")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("jobs.forget ")]
    assert line.split()[2:] == ["03:17:00", "17", "3", "*", "*", "*", "missed:", "skip"]
