"""Ticks: what the clock owes, as cron lines in UTC. However many schedulers run, each tick is owed once.

TICKS = [Tick("students.touch", "*/5 * * * *", touch_all, missed="skip")]
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import getrandbits
from time import perf_counter
from typing import Any, Literal

from msgspec import Struct

from kinfolk.kit import log
from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.jobs import Job
from kinfolk.kit.metrics import tick_metrics
from kinfolk.kit.role import Main
from kinfolk.kit.statements import LAST_TICK, TAKEN_TICK, TICK_OWED, TICKS

LATE = timedelta(minutes=1)
"""A tick that is later than this was missed."""
LOOK_SECONDS = 5.0
"""The longest sleep: a clock may be set, and a machine be put to sleep."""
STUCK = "3s"
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Tick:
    """A job that is owed at each moment of a cron line.

    Where nobody was there to owe it in time, `missed` says whether it is skipped or caught up on.
    """

    name: str
    line: str
    job: Job[..., Any]
    missed: Literal["skip", "catch up"] = "skip"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def after(self, moment: datetime) -> datetime:
        """When it is due next, after `moment`. Raises WrongSetting for a line that is none."""
        from croniter import CroniterError, croniter  # takes up 3 MB, and only a scheduler looks at the clock

        try:
            following: datetime = croniter(self.line, moment).get_next(datetime)
        except (CroniterError, AttributeError) as error:
            raise WrongSetting(f"the cron line of the tick {self.name} cannot be: {self.line!r}: {error}") from None
        return following

    def coming(self, last: datetime, now: datetime) -> datetime:
        """When it is to be owed next, having been owed at `last`; what was missed may be in the past."""
        moment = self.after(last)
        return max(moment, self.after(now - LATE)) if self.missed == "skip" else moment


class TickState(Struct, frozen=True):
    """A tick that was owed, as a job."""

    name: str
    due_at: datetime
    job_id: int | None


async def list_ticks(conn: Connection, name: str | None = None, limit: int = 100) -> list[TickState]:
    """Ticks that were owed, newest first."""
    return [TickState(*row) for row in await TICKS.fetch(conn, name=name, limit=limit)]


async def owe(conn: Connection, tick: Tick, due_at: datetime) -> int | None:
    """Owe the tick of this moment, in the transaction of `conn`: the number of the job, or None if it is owed."""
    # One that was stopped (SIGSTOP, a frozen machine) in the middle must not hold up the others.
    await conn.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{STUCK}'")
    if await TAKEN_TICK.fetchval(conn, name=tick.name, due_at=due_at) is None:
        return None
    job_id = await tick.job.later(conn, **tick.arguments)
    await TICK_OWED.execute(conn, name=tick.name, due_at=due_at, job_id=job_id)
    return job_id


def scheduler(db: Database, every: Sequence[Tick]) -> Main:
    """The work of `kinfolk schedule`. Raises WrongSetting for two ticks of one name and a bad line."""
    for tick in every:
        tick.after(datetime.now(UTC))
    names = [tick.name for tick in every]
    for name in names:
        if names.count(name) > 1:
            raise WrongSetting(f"there are two ticks named {name}")

    async def main(on_ready: Callable[[], None], ending: asyncio.Event) -> None:
        last: dict[str, datetime] = {}
        on_ready()
        while not ending.is_set():
            pause_seconds = LOOK_SECONDS
            for tick in every:
                try:
                    pause_seconds = min(pause_seconds, await _catch_up(db, tick, last))
                except DatabaseAway as away:
                    log.write_line({"event": "ticks_held", "reason": str(away.__cause__)}, logging.WARNING)
                    pause_seconds = PAUSE_SECONDS
                    break
                except Exception as error:  # one that cannot be owed must not hold up the others
                    log.write_line({"event": "tick", "name": tick.name, "outcome": "not owed"}, logging.ERROR, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause_seconds)

    return main


async def _catch_up(db: Database, tick: Tick, last: dict[str, datetime]) -> float:
    """Owe all that is due of this tick; the seconds until it is due again."""
    if tick.name not in last:  # one that never was owed begins now
        async with db.connection() as conn:
            last[tick.name] = await LAST_TICK.fetchval(conn, name=tick.name) or datetime.now(UTC)
    while (due_at := tick.coming(last[tick.name], now := datetime.now(UTC))) <= now:
        await _owe(db, tick, due_at)
        last[tick.name] = due_at
    return (due_at - now).total_seconds()


async def _owe(db: Database, tick: Tick, due_at: datetime) -> None:
    begun = perf_counter()
    with log.facts(f"{getrandbits(64):016x}", f"tick:{tick.name}") as facts:
        async with db.transaction() as conn:
            job_id = await owe(conn, tick, due_at)
    if job_id is not None:
        tick_metrics().count(tick.name)
        line = {"event": "tick", **facts, "name": tick.name, "due_at": due_at.isoformat(), "job_id": job_id}
        log.write_line(line | {"ms": (perf_counter() - begun) * 1_000})
