"""Forgetting, each night, jobs and ticks of long ago."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.schedule import Tick
from kinfolk.modules.jobs.statements import FORGOTTEN

KEPT = timedelta(days=30)
FAILED_KEPT = timedelta(days=365)


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
