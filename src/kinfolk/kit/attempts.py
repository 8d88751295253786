"""One attempt at a job: it is begun, done in a transaction, and what becomes of it is written down."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from kinfolk.kit import log, telemetry
from kinfolk.kit.db import Database, DatabaseAway
from kinfolk.kit.gathering import Gathering
from kinfolk.kit.jobs import Attempt, Job, attempt_under_way
from kinfolk.kit.ledger import Begun, Ledger, Overtaken
from kinfolk.kit.metrics import job_metrics
from kinfolk.kit.problems import Problem

MOST_LOST = 20
AWAY_SECONDS = 1.0
NOT_NOW = 500


class Again(Exception):  # noqa: N818  # what the queue is to do
    """The job is to be tried again after a pause."""

    def __init__(self, pause_seconds: float = 0.0) -> None:
        super().__init__()
        self.pause_seconds = pause_seconds


class Attempts:
    """Does jobs on one database, and writes one line on each attempt."""

    def __init__(self, db: Database, ledger: Ledger) -> None:
        self._db = db
        self._ledger = ledger
        self._beginnings: Gathering[int, Begun | None] = Gathering(partial(ledger.begin, db))

    async def run(
        self, job: Job[..., Any], job_id: int, is_unwanted: Callable[[], bool], traceparent: str | None = None
    ) -> None:
        """Begin the next attempt and see it to its end. Raises Again where there is to be another.

        Cancelled, it gives the job back, unless `is_unwanted` says that somebody asked it to stop.
        """
        started = perf_counter()
        try:
            begun = await self._beginnings.ask(job_id)
        except Exception as failure:  # whatever it is, the job is none the worse for it
            reason = None if isinstance(failure, DatabaseAway) else failure
            log.write_line({"event": "not_begun", "job_id": job_id}, logging.WARNING, reason)
            raise Again(AWAY_SECONDS) from failure
        if begun is None:  # it was done, and its worker died before the queue knew
            return
        span = telemetry.begin(job.name, "consumer", traceparent, begun.request_id)
        with log.facts(begun.request_id, begun.by) as facts, span:
            outcome, again, error = await self._see_through(job, begun, is_unwanted)
            seconds = perf_counter() - started
            line = {
                "event": "job",
                "id": begun.request_id,
                "name": job.name,
                "job_id": job_id,
                "attempt": begun.attempt,
                "outcome": outcome,
                "ms": seconds * 1_000,
                **facts,
            }
        is_told = isinstance(error, Problem)
        level = logging.INFO if error is None else logging.WARNING if is_told or again else logging.ERROR
        log.write_line(line, level, None if is_told else error)
        job_metrics().count(job.name, outcome, seconds)
        told = {"job_id": job_id, "attempt": begun.attempt, "outcome": outcome, "id": begun.request_id}
        span.end(told, None if is_told else error)
        if again is not None:
            raise again

    async def _see_through(
        self, job: Job[..., Any], begun: Begun, is_unwanted: Callable[[], bool]
    ) -> tuple[str, Again | None, Exception | None]:
        """The outcome, whether to try again, and what went wrong."""
        try:
            return await self._outcome(job, begun, is_unwanted)
        except Overtaken:
            # The queue forgets by the job's number alone: to let go of it now would be to let go of the other's.
            return "overtaken", Again(job.limit_seconds), None
        except DatabaseAway as away:
            log.note(reason=str(away))
            return "held", Again(AWAY_SECONDS), None

    async def _outcome(
        self, job: Job[..., Any], begun: Begun, is_unwanted: Callable[[], bool]
    ) -> tuple[str, Again | None, Exception | None]:
        if begun.is_unwanted:
            await self._ledger.end(self._db, begun, "cancelled", None)
            return "cancelled", None, None
        if begun.attempt - begun.accidents > MOST_LOST:
            await self._ledger.end(self._db, begun, "failed", f"its worker died at each of {MOST_LOST} attempts")
            return "failed", None, None
        try:
            await self._do(job, begun)
        except (Overtaken, DatabaseAway):
            raise
        except asyncio.CancelledError:
            if not is_unwanted():
                await self._ledger.put_back(self._db, begun, begun.accidents, None)
                return "given back", Again(), None
            await self._ledger.end(self._db, begun, "cancelled", None)
            return "cancelled", None, None
        except Exception as error:
            return await self._after(error, job, begun)
        return "done", None, None

    async def _after(
        self, error: Exception, job: Job[..., Any], begun: Begun
    ) -> tuple[str, Again | None, Exception | None]:
        words = _words(error, begun)
        if (isinstance(error, Problem) and error.status < NOT_NOW) or begun.accidents >= len(job.retries):
            await self._ledger.end(self._db, begun, "failed", words)
            return "failed", None, error
        await self._ledger.put_back(self._db, begun, begun.accidents + 1, words)
        return "retried", Again(job.retries[begun.accidents]), error

    async def _do(self, job: Job[..., Any], begun: Begun) -> None:
        attempt_under_way.set(Attempt(self._db, self._ledger, begun))
        async with self._db.connection() as conn:  # the wait for it is no time of the job's
            try:
                async with asyncio.timeout(job.limit_seconds) as limit, conn.transaction():
                    result = await job.run(conn, begun.arguments)
                    await self._ledger.finish(conn, begun, result)
            except TimeoutError as error:
                if limit.expired():
                    raise TookTooLong(f"it took longer than {job.limit_seconds:g} seconds") from error
                raise


class TookTooLong(Exception):  # noqa: N818  # what has gone wrong with the job
    """An attempt was stopped by its job's limit."""


def _words(error: Exception, begun: Begun) -> str:
    """What everybody may read: an answer as it is; of an accident its kind, for its words may tell of people."""
    match error:
        case Problem(detail=None):
            return error.title()
        case Problem():
            return f"{error.title()} {error.detail}"
        case TookTooLong():
            return str(error)
    return f"{type(error).__name__}; the log has more under job_id={begun.job_id}"
