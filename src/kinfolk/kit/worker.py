"""The worker: takes jobs from the queue and does them, and outlives the database's going away."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer.core.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import FailingListenerError, RetryRequested
from pgqueuer.domain.models import Context
from pgqueuer.domain.models import Job as QueuedJob

from kinfolk.kit import log, news
from kinfolk.kit.attempts import Again, Attempts
from kinfolk.kit.db import NOT_LET_IN, Database
from kinfolk.kit.jobs import Job
from kinfolk.kit.ledger import Ledger
from kinfolk.kit.metrics import job_metrics
from kinfolk.kit.queue import queue
from kinfolk.kit.role import Main

STALE = timedelta(seconds=10)
"""Without a sign of life for so long, a worker is taken for dead, and its jobs are begun anew elsewhere."""
GLANCE = timedelta(seconds=2)
"""How often a worker looks for jobs of the dead, and for those to be tried again; of new ones it is told."""
LONGEST_PAUSE_SECONDS = 5.0
WENT: tuple[type[Exception], ...] = (*NOT_LET_IN, FailingListenerError)


def worker(db: Database, jobs: Sequence[Job[..., Any]], at_once: int) -> Main:
    """The work of `kinfolk work`: `at_once` jobs at the same time, each with a connection of the pool.

    The pool must have one more, for what is written of a job while it is under way.
    """

    async def main(on_ready: Callable[[], None], ending: asyncio.Event) -> None:
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)  # each attempt has its own line
        job_metrics().expect(job.name for job in jobs)
        pause_seconds = 0.0
        on_ready()
        async with news.connections():
            while not ending.is_set():
                try:
                    async with db.apart() as conn:
                        pause_seconds = 0.0
                        await _work(conn, Crew(Attempts(db, Ledger()), jobs, at_once), ending)
                except WENT as error:
                    pause_seconds = min(pause_seconds * 2 or 0.2, LONGEST_PAUSE_SECONDS)
                    reason = f"{type(error).__name__}: {error}"
                    log.write_line(
                        {"event": "queue_away", "reason": reason, "again_seconds": pause_seconds}, logging.WARNING
                    )
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ending.wait(), pause_seconds)

    return main


async def _work(conn: "asyncpg.Connection[asyncpg.Record]", crew: "Crew", ending: asyncio.Event) -> None:
    """Do jobs until told to end, or the connection is lost."""
    own = queue(conn)
    # What could not be put back when the database went: nothing of ours is left like that on purpose.
    await own.requeue_jobs([held.id for held in await own.list_failed_jobs(limit=10_000)])
    manager = QueueManager(own, own.qbq.settings.channel)
    manager.min_dequeue_poll_interval = timedelta(seconds=0.02)
    crew.join(manager)
    lost = asyncio.Event()
    conn.add_termination_listener(lambda _conn: lost.set())
    told = asyncio.ensure_future(_first(ending, lost))
    running = asyncio.ensure_future(
        manager.run(
            dequeue_timeout=GLANCE,
            batch_size=crew.at_once,
            max_concurrent_tasks=2 * crew.at_once,
            shutdown_on_listener_failure=True,
            heartbeat_timeout=STALE,
            log_aggregation_interval=timedelta(),
        )
    )
    try:
        await asyncio.wait([told, running], return_when=asyncio.FIRST_COMPLETED)
        manager.shutdown.set()
        crew.take_no_more()
        if lost.is_set():
            crew.give_back()
        await asyncio.shield(running)
    except asyncio.CancelledError:  # the time of grace is over
        manager.shutdown.set()
        crew.take_no_more()
        crew.give_back()
        await running
        raise
    finally:
        told.cancel()


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


class Crew:
    """Those jobs of the queue that are being done in this process."""

    def __init__(self, attempts: Attempts, jobs: Sequence[Job[..., Any]], at_once: int) -> None:
        self.at_once = at_once
        self._attempts = attempts
        self._jobs = jobs
        self._places = asyncio.Semaphore(at_once)
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_taking = True

    def join(self, manager: QueueManager) -> None:
        """Let the manager hand each kind of job to us. Raises RuntimeError where two have one name."""
        for job in self._jobs:
            parameters = EntrypointExecutorParameters(concurrency_limit=0, func=_never, on_failure="hold")
            manager.register_executor(job.name, _Hand(parameters, self, job))

    def take_no_more(self) -> None:
        """What waits for a place is given back as it is."""
        self._is_taking = False

    def give_back(self) -> None:
        for task in self._under_way:
            task.cancel()

    async def do(self, job: Job[..., Any], job_id: int, context: Context, traceparent: str | None) -> None:
        """Raises RetryRequested, which is how the queue is told to keep a job."""
        task = asyncio.ensure_future(self._in_turn(job, job_id, context, traceparent))
        self._under_way.add(task)
        try:
            with context.cancellation:  # it would cancel whatever we await inside, the rollback too
                await asyncio.wait([task])
            task.cancel()
            await asyncio.wait([task])
        finally:
            self._under_way.discard(task)
        if task.cancelled():  # it never had its turn
            raise RetryRequested
        try:
            task.result()
        except Again as again:
            raise RetryRequested(timedelta(seconds=again.pause_seconds)) from None

    async def _in_turn(self, job: Job[..., Any], job_id: int, context: Context, traceparent: str | None) -> None:
        async with self._places:
            if not self._is_taking:
                raise Again
            await self._attempts.run(job, job_id, lambda: context.cancellation.cancel_called, traceparent)


class _Hand(AbstractEntrypointExecutor):
    """What PgQueuer hands a job to."""

    def __init__(self, parameters: EntrypointExecutorParameters, crew: Crew, job: Job[..., Any]) -> None:
        super().__init__(parameters)
        self._crew = crew
        self._job = job

    async def execute(self, job: QueuedJob, context: Context) -> None:
        traceparent = (job.headers or {}).get("traceparent")
        await self._crew.do(self._job, int(job.id), context, None if traceparent is None else str(traceparent))


async def _never(_job: QueuedJob) -> None:  # pragma: no cover  # an executor has a function, and ours does not call it
    raise NotImplementedError
