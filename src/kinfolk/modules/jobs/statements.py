"""What is asked of jobs and ticks of long ago."""

from sqlalchemy import DateTime, and_, delete, func, or_, select

from kinfolk.kit.sql import param, sql
from kinfolk.kit.tables import jobs, ticks

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
