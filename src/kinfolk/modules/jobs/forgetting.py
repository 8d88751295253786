"""Forgetting, each night, jobs and ticks of long ago."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct
from sqlalchemy import DateTime, and_, delete, func, or_, select

from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.ledger import jobs
from kinfolk.kit.schedule import Tick, ticks
from kinfolk.kit.sql import param, sql

KEPT = timedelta(days=30)
FAILED_KEPT = timedelta(days=365)

_before = param("before", DateTime(timezone=True))
_failed_before = param("failed_before", DateTime(timezone=True))
_newer = ticks.alias("newer")
_old_jobs = (
    delete(jobs)
    .where(or_(jobs.c.ended_at < _failed_before, and_(jobs.c.ended_at < _before, jobs.c.status != "failed")))
    .returning(jobs.c.job_id)
    .cte()
)
# The newest of each name stays: by it a scheduler knows what was missed.
_old_ticks = (
    delete(ticks)
    .where(
        ticks.c.due_at < _before,
        select(_newer.c.name).where(_newer.c.name == ticks.c.name, _newer.c.due_at > ticks.c.due_at).exists(),
    )
    .returning(ticks.c.name)
    .cte()
)
FORGOTTEN = sql(
    select(
        select(func.count()).select_from(_old_jobs).scalar_subquery(),
        select(func.count()).select_from(_old_ticks).scalar_subquery(),
    )
)


class Forgotten(Struct, frozen=True):
    """How many were forgotten."""

    jobs: int
    ticks: int


@job(name="jobs.forget")
async def forget_old(conn: Connection) -> Forgotten:
    """Forget jobs that ended a month ago, those that failed a year ago, and ticks of a month ago."""
    now = datetime.now(UTC)
    row = await FORGOTTEN.fetchrow(conn, before=now - KEPT, failed_before=now - FAILED_KEPT)
    assert row is not None
    return Forgotten(*row)


JOBS = [forget_old]
TICKS = [Tick("jobs.forget", "17 3 * * *", forget_old)]
