"""The HTTP face of jobs and ticks."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from kinfolk.kit.http import Answer, Request, delete, get
from kinfolk.kit.http.answers import LARGEST_ID
from kinfolk.kit.ledger import JobState, NoSuchJob, Progress, Status, cancel_job, find_job, list_jobs
from kinfolk.kit.schedule import TickState, list_ticks

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
WELCOME = JobState(7, "students.welcome", "running", Progress(3, 10), 1, None, None, NOON, NOON, None)

Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Limit = Annotated[int, Meta(ge=1, le=1_000, description="How many at the most.")]


class JobsAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs to list."""

    kind: Annotated[Name | None, Meta(description="Only jobs of this name.")] = None
    status: Annotated[Status | None, Meta(description="Only jobs that stand so.")] = None
    limit: Limit = 100
    after: Annotated[int, Meta(ge=0, le=LARGEST_ID, description="Only jobs with a greater number.")] = 0


class TicksAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Which ticks to list."""

    name: Annotated[Name | None, Meta(description="Only ticks of this name.")] = None
    limit: Limit = 100


@get("/jobs", asks=JobsAsked, gives={200: list[JobState]}, given=[WELCOME])
async def get_jobs(request: Request) -> Answer:
    """Jobs by number."""
    asked = request.asked(JobsAsked)
    async with request.db.connection() as conn:
        return Answer.of(await list_jobs(conn, asked.kind, asked.status, asked.limit, asked.after, by=request.only_by))


@get("/jobs/{id}", gives={200: JobState}, given=WELCOME, refuses=[NoSuchJob])
async def get_job(request: Request) -> Answer:
    """A job as it now stands."""
    async with request.db.connection() as conn:
        return Answer.of(await find_job(conn, request.number("id", NoSuchJob), request.only_by))


@delete("/jobs/{id}", gives={202: JobState}, given=WELCOME, refuses=[NoSuchJob])
async def delete_job(request: Request) -> Answer:
    """Ask a job to stop. One that waits never runs; one under way is cancelled, and what it did is undone."""
    async with request.db.transaction() as conn:
        return Answer.of(await cancel_job(conn, request.number("id", NoSuchJob)), 202)


@get("/ticks", asks=TicksAsked, gives={200: list[TickState]}, given=[TickState("students.touch", NOON, 7)])
async def get_ticks(request: Request) -> Answer:
    """What the clock has owed, newest first."""
    asked = request.asked(TicksAsked)
    async with request.db.connection() as conn:
        return Answer.of(await list_ticks(conn, asked.name, asked.limit))


ROUTES = [get_jobs, get_job, delete_job, get_ticks]
