"""The operator's commands: `kinfolk jobs list`, `show` and `cancel`."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from kinfolk.kit.client import asked, printable, read_answer
from kinfolk.kit.ending import OK, ends_plainly
from kinfolk.kit.settings import ClientSettings, FileSettings, whole

app = App("jobs", help="Look after jobs: list, show, cancel.")

Number = Annotated[int, Parameter(converter=whole, help="The number of the job.")]


class Progress(msgspec.Struct, frozen=True):
    done: int
    total: int


class Job(msgspec.Struct, frozen=True):
    """What we read of a job."""

    id: int
    kind: str
    status: str
    attempts: int
    created_at: datetime
    progress: Progress | None = None
    error: str | None = None


@app.command(name="list")
@ends_plainly
def list_jobs(
    *,
    kind: Annotated[str | None, Parameter(help="Only jobs of this name.")] = None,
    status: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled"] | None, Parameter(help="Only jobs that stand so.")
    ] = None,
    after: Annotated[int, Parameter(converter=whole, help="Only jobs with a greater number.")] = 0,
    limit: Annotated[int, Parameter(converter=whole, help="How many at the most.")] = 100,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """List jobs by number: number, status, name, attempts, progress, what went wrong."""
    query = {"kind": kind, "status": status, "after": after, "limit": limit}
    answer = asked("GET", "api/v1/jobs", client, {name: value for name, value in query.items() if value is not None})
    for job in read_answer(answer, list[Job]):
        print(_line(job))
    return OK


@app.command
@ends_plainly
def show(
    job_id: Number,
    /,
    *,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Show all that is known of a job, as JSON."""
    answer = asked("GET", f"api/v1/jobs/{job_id}", client)
    read_answer(answer, Job)
    for line in msgspec.json.format(answer.content, indent=2).decode().splitlines():
        print(printable(line))
    return OK


@app.command
@ends_plainly
def cancel(
    job_id: Number,
    /,
    *,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Ask a job to stop; shows how it then stands."""
    print(_line(read_answer(asked("DELETE", f"api/v1/jobs/{job_id}", client), Job)))
    return OK


def _line(job: Job) -> str:
    facts = [
        f"{job.id:>8}  {job.status:9}  {job.kind}",
        f"attempts {job.attempts}",
        f"{job.created_at:%Y-%m-%d %H:%M:%S}",
    ]
    facts += [f"{job.progress.done} of {job.progress.total}"] if job.progress else []
    facts += [printable(job.error)] if job.error else []
    return "  ".join(facts)
