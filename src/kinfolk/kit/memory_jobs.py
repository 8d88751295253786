"""For tests: jobs owed to the memory of the process, and done when the test says so, without a worker.

    with jobs_in_memory(db) as memory:
        await client.post("/api/v1/students", …)
        await memory.work_all()

The operations run on the real database, each in a transaction of its own. Pauses are skipped, and what is owed in a
transaction that is then rolled back stays owed: for that, and for processes that die, there are tests of the kit.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Literal

from kinfolk.kit.attempts import Again, Attempts
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.jobs import Job, swap_ledger
from kinfolk.kit.ledger import Begun, Named, Owed, Status


class Remembered:
    """A job that was owed, and what became of it."""

    def __init__(self, job: Job[..., Any], owed: Owed, after: datetime | None) -> None:
        self.job = job
        self.owed = owed
        self.after = after
        self.status: Status = "queued"
        self.attempts = 0
        self.accidents = 0
        self.progress: tuple[int, int] | None = None
        self.result: str | None = None
        self.error: str | None = None


class MemoryJobs:
    """What one test owes."""

    def __init__(self, db: Database) -> None:
        self.jobs: dict[int, Remembered] = {}
        """All that were owed, by number."""
        self._db = db

    async def work_all(self) -> None:
        """Do all that is owed, and what that owes in turn; what fails has been tried as often as it may be."""
        attempts = Attempts(self._db, self)
        while waiting := [(job_id, each.job) for job_id, each in self.jobs.items() if each.status == "queued"]:
            for job_id, job in waiting:
                with suppress(Again):
                    await asyncio.create_task(attempts.run(job, job_id, lambda: False))

    async def owe(self, _conn: Connection, job: Named, owed: Sequence[Owed], after: datetime | None) -> list[int]:
        assert isinstance(job, Job)
        first = len(self.jobs) + 1
        made = {job_id: Remembered(job, each, after) for job_id, each in enumerate(owed, first)}
        self.jobs |= made
        return list(made)

    async def begin(self, _db: Database, job_ids: Sequence[int]) -> list[Begun | None]:
        begun: list[Begun | None] = []
        for job_id in job_ids:
            known = self.jobs[job_id]
            known.status, known.attempts = "running", known.attempts + 1
            owed = known.owed
            begun.append(
                Begun(job_id, known.attempts, known.accidents, owed.request_id, owed.by, False, owed.arguments)
            )
        return begun

    async def finish(self, _conn: Connection, begun: Begun, result: str | None) -> None:
        self._write(begun, status="done", result=result, error=None)

    async def end(self, _db: Database, begun: Begun, status: Literal["failed", "cancelled"], error: str | None) -> None:
        self._write(begun, status=status, error=error)

    async def put_back(self, _db: Database, begun: Begun, accidents: int, error: str | None) -> None:
        self._write(begun, status="queued", accidents=accidents, error=error)

    async def progress(self, _db: Database, begun: Begun, done: int, total: int) -> None:
        self._write(begun, progress=(done, total))

    def _write(self, begun: Begun, **facts: Any) -> None:
        vars(self.jobs[begun.job_id]).update(facts)


@contextmanager
def jobs_in_memory(db: Database) -> Iterator[MemoryJobs]:
    """Owe all jobs to memory, as long as this lasts."""
    memory = MemoryJobs(db)
    before = swap_ledger(memory)
    try:
        yield memory
    finally:
        swap_ledger(before)
