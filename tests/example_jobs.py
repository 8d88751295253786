"""Jobs and ticks that tests owe, and the roles that do them, as a process: python -m tests.example_jobs ROLE URL."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from kinfolk.kit import problems, schedule, worker
from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.jobs import job, progress
from kinfolk.kit.process import Child, Supervisor
from kinfolk.kit.role import role
from kinfolk.kit.schedule import Tick
from kinfolk.kit.settings import LogSettings

MARKS = "CREATE TABLE marks (word text NOT NULL, moment timestamptz NOT NULL DEFAULT clock_timestamp())"
LOCK = 22_11
GRACE_SECONDS = 5.0


@asynccontextmanager
async def holding(db: Database) -> AsyncIterator[Connection]:
    """A connection that lets no job end that is held; what it loses is no fault."""
    with suppress(DatabaseAway):
        async with db.transaction() as conn:
            await conn.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
            yield conn


class NotToday(problems.Conflict):
    """Not today."""


class NotYet(problems.Unavailable):
    """Not yet."""


@job(name="tests.mark", retries=(0.05, 0.1))
async def mark(
    conn: Connection, *, word: str, how: str = "well", seconds: float = 0.0, is_held: bool = False
) -> dict[str, str]:
    """Make a mark, and then do `how` it is said; if `is_held`, not before `holding` is over."""
    await conn.execute("INSERT INTO marks (word) VALUES ($1)", word)
    await asyncio.sleep(seconds)
    if is_held:
        await conn.execute(f"SELECT pg_advisory_xact_lock_shared({LOCK})")
    match how:
        case "badly":
            raise RuntimeError("a name that nobody may read")
        case "no":
            raise NotToday("Tomorrow, perhaps.")
        case "plainly no":
            raise NotToday
        case "not yet":
            raise NotYet
    return {"marked": word}


@job(name="tests.quick", limit_seconds=0.2, retries=())
async def quick(conn: Connection, *, seconds: float) -> None:
    """Takes longer than it may."""
    await asyncio.sleep(seconds)


@job(name="tests.timid", retries=())
async def timid(conn: Connection) -> None:
    """Runs into a limit of its own."""
    raise TimeoutError


@job(name="tests.count", retries=())
async def count(conn: Connection, *, total: int, seconds: float = 0.0) -> int:
    """Count, and tell how far it is."""
    for done in range(total + 1):
        await progress(done, total)
    await asyncio.sleep(seconds)
    return total


@job(name="tests.parent", retries=())
async def parent(conn: Connection, *, word: str) -> None:
    """Owe another one."""
    await mark.later(conn, word=word)


JOBS = [mark, quick, timid, count, parent]


@job(name="tests.ticked")
async def ticked(conn: Connection) -> None:
    """What the clock owes."""


TICKS = [Tick("tests.second", "* * * * * *", ticked, missed="catch up")]


def main(name: str, url: str) -> int:
    worker.STALE = timedelta(seconds=2)
    worker.GLANCE = timedelta(seconds=0.5)
    schedule.STUCK = "1s"
    db = Database(url, size=4, wait_seconds=1)
    begin = worker.worker(db, JOBS, at_once=3) if name == "work" else schedule.scheduler(db, TICKS)
    child = Child(name, role(db, begin, GRACE_SECONDS))
    return Supervisor(name, [child], LogSettings(), GRACE_SECONDS).run(lambda: print("ready", flush=True), time.time)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
