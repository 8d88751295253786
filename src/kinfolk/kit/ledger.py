"""What is known of each job: owed, begun, how far, how it ended. Written beside PgQueuer's queue, which forgets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from kinfolk.kit import audit, problems, telemetry
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.statement import Statement
from kinfolk.kit.statements import (
    BEGUN,
    DONE,
    ENDED,
    JOB,
    JOBS,
    OWED,
    PROGRESSED,
    PUT_BACK,
    TAKEN_BACK,
    TOLD,
    UNWANTED,
)

CHANNEL = "ch_pgqueuer"
Status = Literal["queued", "running", "done", "failed", "cancelled"]


class NoSuchJob(problems.NotFound):
    """There is no such job, or it was done long ago."""


class Progress(Struct, frozen=True):
    """How far a job is, in whatever it counts."""

    done: int
    total: int


class JobState(Struct, frozen=True, rename={"job_id": "id"}):
    """A job as it now stands."""

    job_id: int
    kind: str
    status: Status
    progress: Progress | None
    attempts: int
    result: Raw | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Begun(Struct, frozen=True):
    """An attempt at a job, whose number guards what is written of it."""

    job_id: int
    attempt: int
    accidents: int
    request_id: str | None
    by: str | None
    """Who owed it, as `log.Origin` has it."""
    is_unwanted: bool
    arguments: str
    """As JSON."""


class Owed(Struct, frozen=True):
    """One job to be owed."""

    arguments: str
    """As JSON."""
    request_id: str | None
    by: str | None


class Overtaken(Exception):  # noqa: N818  # by which a transaction is rolled back
    """Another worker has begun the job anew: what this attempt did, or would write, must not stay."""


class Named(Protocol):
    """A job, as far as the ledger needs to know."""

    @property
    def name(self) -> str: ...


class Ledger:
    """What becomes of jobs, in PostgreSQL. To write of an attempt that is not the last raises Overtaken."""

    async def owe(self, conn: Connection, job: Named, owed: Sequence[Owed], after: datetime | None) -> list[int]:
        """Owe the job once for each, in the transaction of `conn`; the numbers."""
        pause = timedelta() if after is None else max(after - datetime.now(UTC), timedelta())
        return await self._owe(conn, OWED, job, owed, pause=pause, headers=_headers(owed))

    async def _owe(
        self, conn: Connection, statement: Statement, job: Named, owed: Sequence[Owed], **values: object
    ) -> list[int]:
        assert conn.is_in_transaction(), "a job is owed in a transaction: with it comes and goes what the job is about"
        rows = await statement.fetch(
            conn,
            kind=job.name,
            arguments=[each.arguments for each in owed],
            request_ids=[each.request_id for each in owed],
            bys=[each.by for each in owed],
            **values,
        )
        return sorted(row[0] for row in rows)  # numbered as they were given

    async def begin(self, db: Database, job_ids: Sequence[int]) -> list[Begun | None]:
        """The next attempt at each of these jobs, or None where it has ended."""
        async with db.connection() as conn:
            rows = await BEGUN.fetch(conn, job_ids=job_ids)
        begun = {row[0]: Begun(*row[:-1]) for row in rows}
        return [begun.get(job_id) for job_id in job_ids]

    async def finish(self, conn: Connection, begun: Begun, result: str | None) -> None:
        """It is done, in the transaction of what it did."""
        await self._write(conn, DONE, begun, result=result)

    async def end(self, db: Database, begun: Begun, status: Literal["failed", "cancelled"], error: str | None) -> None:
        """It is not to be tried again."""
        async with db.connection() as conn:
            await self._write(conn, ENDED, begun, status=status, error=error)

    async def put_back(self, db: Database, begun: Begun, accidents: int, error: str | None) -> None:
        """It waits for its next attempt."""
        async with db.connection() as conn:
            await self._write(conn, PUT_BACK, begun, accidents=accidents, error=error)

    async def progress(self, db: Database, begun: Begun, done: int, total: int) -> None:
        """It is so far; seen at once."""
        async with db.connection() as conn:
            await self._write(conn, PROGRESSED, begun, done=done, total=total)

    async def _write(self, conn: Connection, statement: Statement, begun: Begun, **values: object) -> None:
        if await statement.fetchrow(conn, job_id=begun.job_id, attempt=begun.attempt, **values) is None:
            raise Overtaken


async def find_job(conn: Connection, job_id: int, by: str | None = None) -> JobState:
    """A job, or, where `by` is given, one that they owed. Raises NoSuchJob."""
    return _state(await JOB.fetchrow_or(conn, NoSuchJob(id=job_id), job_id=job_id, by=by))


async def list_jobs(
    conn: Connection,
    kind: str | None = None,
    status: Status | None = None,
    limit: int = 100,
    after: int = 0,
    *,
    by: str | None = None,
) -> list[JobState]:
    """Jobs by number, those above `after`; where `by` is given, those that they owed."""
    rows = await JOBS.fetch(conn, kind=kind, status=status, limit=limit, after=after, by=by)
    return [_state(row) for row in rows]


async def cancel_job(conn: Connection, job_id: int) -> JobState:
    """Ask a job to stop: one that waits never runs, one under way is cancelled. Raises NoSuchJob."""
    status = await UNWANTED.fetchval(conn, job_id=job_id)
    if status is not None:
        await audit.note(conn, "job.cancelled", job_id=job_id)
    if status == "cancelled":
        await TAKEN_BACK.execute(conn, job_id=job_id)
    elif status == "running":
        event = {"channel": CHANNEL, "type": "cancellation_event", "ids": [job_id], "sent_at": datetime.now(UTC)}
        await TOLD.execute(conn, channel=CHANNEL, event=msgspec.json.encode(event).decode())
    return await find_job(conn, job_id)


def _headers(owed: Sequence[Owed]) -> str | None:
    """What the queue keeps of the spans that these jobs go back to, by their requests' ids; as JSON."""
    spans = telemetry.traceparents(each.request_id for each in owed)
    if not spans:
        return None
    return msgspec.json.encode({each: {"traceparent": span} for each, span in spans.items()}).decode()


def _state(row: Any) -> JobState:
    job_id, kind, status, done, total, attempts, result, *others = row
    progress = None if done is None else Progress(done, total)
    return JobState(job_id, kind, status, progress, attempts, None if result is None else Raw(result.encode()), *others)
