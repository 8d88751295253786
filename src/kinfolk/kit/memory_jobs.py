"""For tests: a queue in the memory of the process, whose jobs are done when the test says so, without a worker.

    with jobs_in_memory(db) as memory:
        await client.post("/api/v1/students", …)
        await memory.work_all()

All else is as ever: what becomes of a job stands in the database, so what is rolled back is not owed, and what is
cancelled is not done. No pause is waited for.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from kinfolk.kit.attempts import Again, Attempts
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.jobs import Job, swap_ledger
from kinfolk.kit.ledger import Ledger, Named, Owed
from kinfolk.kit.statements import NOTED, WAITING


class MemoryJobs(Ledger):
    """What one test owes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._owed: dict[int, Job[..., Any]] = {}

    async def work_all(self) -> None:
        """Do all that is owed, and what that owes in turn; what fails has been tried as often as it may be."""
        attempts = Attempts(self._db, self)
        while job_ids := await self._waiting():
            for job_id in job_ids:
                with suppress(Again):
                    await asyncio.create_task(attempts.run(self._owed[job_id], job_id, lambda: False))

    async def owe(self, conn: Connection, job: Named, owed: Sequence[Owed], after: datetime | None) -> list[int]:  # noqa: ARG002  # no pause is waited for
        """As ever, but that no worker is told of it."""
        assert isinstance(job, Job)
        job_ids = await self._owe(conn, NOTED, job, owed)
        self._owed |= dict.fromkeys(job_ids, job)
        return job_ids

    async def _waiting(self) -> list[int]:
        async with self._db.connection() as conn:
            return [row[0] for row in await WAITING.fetch(conn, job_ids=list(self._owed))]


@contextmanager
def jobs_in_memory(db: Database) -> Iterator[MemoryJobs]:
    """Owe all jobs to memory, as long as this lasts."""
    memory = MemoryJobs(db)
    before = swap_ledger(memory)
    try:
        yield memory
    finally:
        swap_ledger(before)
