"""Workers that are killed, stopped, or lose their database: every job ends, and its effect is there once."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from tests.example_jobs import MARKS, TICKS, holding, mark
from tests.postgres_places import REPOSITORY

from kinfolk.kit import schedule
from kinfolk.kit.db import Database
from kinfolk.kit.ledger import JobState, find_job

SECONDS = 60
SECONDS_PAUSED = 10


@contextmanager
def role(name: str, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A role in a process of its own, with a supervisor; what it writes lands in `log`."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.example_jobs", name, url],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        )
    try:
        end = time.monotonic() + SECONDS
        while "ready" not in log.read_text():
            assert process.poll() is None, log.read_text()[-2_000:]
            assert time.monotonic() < end, log.read_text()[-2_000:]
            time.sleep(0.05)
        yield process
    finally:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(SECONDS)


def worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.fixture
def url(make_database: Any) -> str:
    return make_database("faulty")


async def until(is_so: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await is_so():
            await asyncio.sleep(0.05)


async def owe(db: Database, **arguments: Any) -> int:
    async with db.transaction() as conn:
        return await mark.later(conn, **arguments)


async def state(db: Database, job_id: int) -> JobState:
    async with db.connection() as conn:
        return await find_job(conn, job_id)


async def is_(db: Database, job_id: int, status: str) -> bool:
    return (await state(db, job_id)).status == status


async def count_marks(db: Database, word: str) -> int:
    async with db.connection() as conn:
        made: int = await conn.fetchval("SELECT count(*) FROM marks WHERE word = $1", word)
        return made


async def with_marks(db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute(MARKS)


async def test_a_job_whose_worker_is_killed_runs_again_and_its_effect_is_there_once(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Database(url) as db:
        await with_marks(db)
        with role("work", url, log) as process:
            async with holding(db):
                job_id = await owe(db, word="killed", is_held=True)
                await until(lambda: is_(db, job_id, "running"))
                worker_of(process).kill()
            await until(lambda: is_(db, job_id, "done"))
            assert "process_died" in log.read_text(), "nothing was killed"
        assert (await state(db, job_id)).attempts >= 2
        assert await count_marks(db, "killed") == 1


async def test_a_worker_that_was_stopped_for_a_while_is_overtaken_and_undone(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Database(url) as db:
        await with_marks(db)
        with role("work", url, log) as first:
            async with holding(db):
                job_id = await owe(db, word="stopped", is_held=True)
                await until(lambda: is_(db, job_id, "running"))
                stopped = worker_of(first)
                stopped.suspend()
            with role("work", url, tmp_path / "other"):
                await until(lambda: is_(db, job_id, "done"))
                stopped.resume()

                async def is_told() -> bool:
                    return "outcome=overtaken" in log.read_text()

                await until(is_told)
        assert (await state(db, job_id)).attempts >= 2
        assert await count_marks(db, "stopped") == 1


async def test_a_worker_that_is_told_to_end_finishes_what_it_can_and_gives_back_the_rest(
    url: str, tmp_path: Path
) -> None:
    async with Database(url) as db:
        await with_marks(db)
        with role("work", url, tmp_path / "log") as process:
            async with holding(db):
                short_id = await owe(db, word="short", is_held=True)
                long_id = await owe(db, word="long", seconds=3_600)
                await until(lambda: is_(db, short_id, "running"))
                await until(lambda: is_(db, long_id, "running"))
                process.terminate()
            assert await asyncio.to_thread(process.wait, SECONDS) == 0
        assert (await state(db, short_id)).status == "done"
        assert (await state(db, long_id)).status == "queued"
        assert (await count_marks(db, "short"), await count_marks(db, "long")) == (1, 0)
        async with db.connection() as conn:  # another worker may take it at once
            assert await conn.fetchval("SELECT status FROM pgqueuer WHERE id = $1", long_id) == "queued"


async def are_owed(db: Database, more: int) -> None:
    """Wait for so many more ticks, one a second."""

    async def count_ticks() -> int:
        async with db.connection() as conn:
            owed: int = await conn.fetchval("SELECT count(*) FROM ticks")
            return owed

    wanted = await count_ticks() + more

    async def are_there() -> bool:
        return await count_ticks() >= wanted

    await until(are_there)


async def test_each_tick_is_owed_once_though_one_scheduler_is_stopped_and_one_killed(url: str, tmp_path: Path) -> None:
    async with Database(url) as db:
        with (
            role("schedule", url, tmp_path / "first") as first,
            role("schedule", url, tmp_path / "second") as second,
            role("schedule", url, tmp_path / "third") as third,
        ):
            await are_owed(db, 2)
            worker_of(first).suspend()
            psutil.Process(second.pid).kill()
            await are_owed(db, 2 + SECONDS_PAUSED)
            worker_of(first).resume()
            third.terminate()
            await asyncio.to_thread(third.wait, SECONDS)
            await are_owed(db, 2)
        async with db.connection() as conn:
            rows = await conn.fetch(
                "SELECT due_at, ticks.job_id, jobs.kind FROM ticks LEFT JOIN jobs USING (job_id) ORDER BY due_at"
            )
            owed = await conn.fetchval("SELECT count(*) FROM jobs WHERE kind = 'tests.ticked'")
    assert owed == len(rows) == len({row["job_id"] for row in rows})
    assert {row["kind"] for row in rows} == {"tests.ticked"}
    assert {(later["due_at"] - row["due_at"]).total_seconds() for row, later in pairwise(rows)} == {1.0}


async def test_one_that_is_stopped_while_it_owes_a_tick_does_not_hold_up_the_others(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its transaction, and the next one to come owes the tick."""
    monkeypatch.setattr(schedule, "STUCK", "300ms")
    due_at = datetime(2026, 11, 22, tzinfo=UTC)
    stuck = await asyncpg.connect(url)
    try:
        transaction = stuck.transaction()
        await transaction.start()
        assert await schedule.owe(stuck, TICKS[0], due_at) is not None
        async with Database(url) as db, asyncio.timeout(60):
            async with db.transaction() as conn:
                assert await schedule.owe(conn, TICKS[0], due_at) is not None
            async with db.transaction() as conn:
                assert await schedule.owe(conn, TICKS[0], due_at) is None
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await transaction.commit()
    finally:
        stuck.terminate()
