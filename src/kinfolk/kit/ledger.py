"""What is known of each job: owed, begun, how far, how it ended. Written beside PgQueuer's queue, which forgets."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    Integer,
    Interval,
    Table,
    Text,
    any_,
    case,
    column,
    delete,
    false,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import problems
from kinfolk.kit.db import Connection, Database, metadata
from kinfolk.kit.sql import Statement, param, sql

Status = Literal["queued", "running", "done", "failed", "cancelled"]

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column(
        "status",
        Enum("queued", "running", "done", "failed", "cancelled", name="job_status"),
        nullable=False,
        server_default="queued",
    ),
    Column("arguments", JSON, nullable=False),
    Column("request_id", Text),
    Column("by", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("accidents", Integer, nullable=False, server_default="0"),
    Column("is_unwanted", Boolean, nullable=False, server_default=false()),
    Column("progress_done", BigInteger),
    Column("progress_total", BigInteger),
    Column("result", JSON),
    Column("error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
)


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


_NOW = func.clock_timestamp()
_WAITS = jobs.c.status == "queued"
_THIS_ATTEMPT = (
    jobs.c.job_id == param("job_id", BigInteger),
    jobs.c.attempts == param("attempt", Integer),
    jobs.c.ended_at.is_(None),
)

# PgQueuer's queue, as far as it concerns whoever owes a job: to load PgQueuer itself would cost each process 13 MB.
CHANNEL = "ch_pgqueuer"
_queue = table("pgqueuer", *map(column, ("id", "priority", "entrypoint", "execute_after", "status")))
_owed = (
    insert(jobs)
    .from_select(
        ["job_id", "kind", "arguments", "request_id", "by"],
        select(
            func.nextval("pgqueuer_id_seq"),
            param("kind", Text),
            func.unnest(param("arguments", ARRAY(JSON))),
            func.unnest(param("request_ids", ARRAY(Text))),
            func.unnest(param("bys", ARRAY(Text))),
        ),
    )
    .returning(jobs.c.job_id)
    .cte()
)
OWED = sql(
    insert(_queue)
    .from_select(
        ["id", "priority", "entrypoint", "execute_after", "status"],
        select(
            _owed.c.job_id,
            literal_column("0"),
            param("kind", Text),
            func.now() + param("pause", Interval),
            literal_column("'queued'::pgqueuer_status"),
        ),
    )
    .returning(_queue.c.id)
)
TAKEN_BACK = sql(delete(_queue).where(_queue.c.id == param("job_id", BigInteger)))
TOLD = sql(select(func.pg_notify(CHANNEL, param("event", Text))))
BEGUN = sql(
    update(jobs)
    .where(jobs.c.job_id == any_(param("job_ids", ARRAY(BigInteger))), jobs.c.ended_at.is_(None))
    .values(status="running", attempts=jobs.c.attempts + 1, started_at=_NOW, progress_done=None, progress_total=None)
    .returning(
        jobs.c.job_id,
        jobs.c.attempts,
        jobs.c.accidents,
        jobs.c.request_id,
        jobs.c.by,
        jobs.c.is_unwanted,
        jobs.c.arguments,
    )
)
DONE = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status="done", result=param("result", JSON), error=None, ended_at=_NOW)
    .returning(jobs.c.job_id)
)
ENDED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(status=param("status", jobs.c.status.type), error=param("error", Text), ended_at=_NOW)
    .returning(jobs.c.job_id)
)
PUT_BACK = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(
        status="queued", accidents=param("accidents", Integer), error=func.coalesce(param("error", Text), jobs.c.error)
    )
    .returning(jobs.c.job_id)
)
PROGRESSED = sql(
    update(jobs)
    .where(*_THIS_ATTEMPT)
    .values(progress_done=param("done", BigInteger), progress_total=param("total", BigInteger))
    .returning(jobs.c.job_id)
)
UNWANTED = sql(
    update(jobs)
    .where(jobs.c.job_id == param("job_id", BigInteger), jobs.c.ended_at.is_(None))
    .values(
        is_unwanted=True,
        status=case((_WAITS, literal("cancelled", jobs.c.status.type)), else_=jobs.c.status),
        ended_at=case((_WAITS, _NOW)),
    )
    .returning(jobs.c.status)
)
_STATE = (
    jobs.c.job_id,
    jobs.c.kind,
    jobs.c.status,
    jobs.c.progress_done,
    jobs.c.progress_total,
    jobs.c.attempts,
    jobs.c.result,
    jobs.c.error,
    jobs.c.created_at,
    jobs.c.started_at,
    jobs.c.ended_at,
)
_IS_SHOWN = or_(param("by", Text).is_(None), jobs.c.by == param("by", Text))
JOB = sql(select(*_STATE).where(jobs.c.job_id == param("job_id", BigInteger), _IS_SHOWN))
JOBS = sql(
    select(*_STATE)
    .where(
        jobs.c.job_id > param("after", BigInteger),
        _IS_SHOWN,
        or_(param("kind", Text).is_(None), jobs.c.kind == param("kind", Text)),
        or_(param("status", jobs.c.status.type).is_(None), jobs.c.status == param("status", jobs.c.status.type)),
    )
    .order_by(jobs.c.job_id)
    .limit(param("limit", BigInteger))
)


class Overtaken(Exception):  # noqa: N818  # by which a transaction is rolled back
    """Another worker has begun the job anew: what this attempt did, or would write, must not stay."""


class Named(Protocol):
    """A job, as far as the ledger needs to know."""

    @property
    def name(self) -> str: ...


class Ledger(Protocol):
    """Where jobs are owed and what becomes of them. To write of an attempt that is not the last raises Overtaken."""

    async def owe(self, conn: Connection, job: Named, owed: Sequence[Owed], after: datetime | None) -> list[int]:
        """Owe the job once for each, in the transaction of `conn`; the numbers."""

    async def begin(self, db: Database, job_ids: Sequence[int]) -> list[Begun | None]:
        """The next attempt at each of these jobs, or None where it has ended."""

    async def finish(self, conn: Connection, begun: Begun, result: str | None) -> None:
        """It is done, in the transaction of what it did."""

    async def end(self, db: Database, begun: Begun, status: Literal["failed", "cancelled"], error: str | None) -> None:
        """It is not to be tried again."""

    async def put_back(self, db: Database, begun: Begun, accidents: int, error: str | None) -> None:
        """It waits for its next attempt."""

    async def progress(self, db: Database, begun: Begun, done: int, total: int) -> None:
        """It is so far; seen at once."""


class Kept:
    """The ledger in PostgreSQL."""

    async def owe(self, conn: Connection, job: Named, owed: Sequence[Owed], after: datetime | None) -> list[int]:
        assert conn.is_in_transaction(), "a job is owed in a transaction: with it comes and goes what the job is about"
        rows = await OWED.fetch(
            conn,
            kind=job.name,
            arguments=[each.arguments for each in owed],
            request_ids=[each.request_id for each in owed],
            bys=[each.by for each in owed],
            pause=timedelta() if after is None else max(after - datetime.now(UTC), timedelta()),
        )
        return sorted(row[0] for row in rows)  # numbered as they were given

    async def begin(self, db: Database, job_ids: Sequence[int]) -> list[Begun | None]:
        async with db.connection() as conn:
            rows = await BEGUN.fetch(conn, job_ids=job_ids)
        begun = {row[0]: Begun(*row) for row in rows}
        return [begun.get(job_id) for job_id in job_ids]

    async def finish(self, conn: Connection, begun: Begun, result: str | None) -> None:
        await self._write(conn, DONE, begun, result=result)

    async def end(self, db: Database, begun: Begun, status: Literal["failed", "cancelled"], error: str | None) -> None:
        async with db.connection() as conn:
            await self._write(conn, ENDED, begun, status=status, error=error)

    async def put_back(self, db: Database, begun: Begun, accidents: int, error: str | None) -> None:
        async with db.connection() as conn:
            await self._write(conn, PUT_BACK, begun, accidents=accidents, error=error)

    async def progress(self, db: Database, begun: Begun, done: int, total: int) -> None:
        async with db.connection() as conn:
            await self._write(conn, PROGRESSED, begun, done=done, total=total)

    async def _write(self, conn: Connection, statement: Statement, begun: Begun, **values: object) -> None:
        if await statement.fetchrow(conn, job_id=begun.job_id, attempt=begun.attempt, **values) is None:
            raise Overtaken


async def find_job(conn: Connection, job_id: int, by: str | None = None) -> JobState:
    """A job, or, where `by` is given, one that they owed. Raises NoSuchJob."""
    row = await JOB.fetchrow(conn, job_id=job_id, by=by)
    if row is None:
        raise NoSuchJob(id=job_id)
    return _state(row)


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
    if status == "cancelled":
        await TAKEN_BACK.execute(conn, job_id=job_id)
    elif status == "running":
        event = {"channel": CHANNEL, "type": "cancellation_event", "ids": [job_id], "sent_at": datetime.now(UTC)}
        await TOLD.execute(conn, event=msgspec.json.encode(event).decode())
    return await find_job(conn, job_id)


def _state(row: Any) -> JobState:
    job_id, kind, status, done, total, attempts, result, *others = row
    progress = None if done is None else Progress(done, total)
    return JobState(job_id, kind, status, progress, attempts, None if result is None else Raw(result.encode()), *others)
