"""The roles beside the API: what each runs, of what the modules have. Nothing is loaded before it is asked for."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from kinfolk.app import MODULES
from kinfolk.kit.db import Database
from kinfolk.kit.role import Main

if TYPE_CHECKING:
    from kinfolk.kit.rabbit import Amqp
    from kinfolk.kit.schedule import Tick

Role: TypeAlias = Callable[[Database], Main]


def work(db: Database) -> Main:
    """Does the jobs that are owed."""
    from kinfolk.kit.worker import worker

    jobs = [job for module in MODULES for job in module.load_jobs()]
    return worker(db, jobs, at_once=max(1, db.size - 1))


def schedule(db: Database) -> Main:
    """Owes what the clock says."""
    from kinfolk.kit.schedule import scheduler

    return scheduler(db, _ticks())


def consume(db: Database, amqp: "Amqp") -> Main:
    """Takes the messages that arrive."""
    from kinfolk.kit.consumer import consumer

    return consumer(db, [lane for module in MODULES for lane in module.load_lanes()], amqp)


def next_ticks() -> list[str]:
    """A line on each tick: its name, when it is due next in UTC, its cron line, and what becomes of those missed."""
    now = datetime.now(UTC)
    ticks = sorted(_ticks(), key=lambda tick: tick.after(now))
    width = max((len(tick.name) for tick in ticks), default=0)
    return [
        f"{tick.name:{width}}  {tick.after(now):%Y-%m-%d %H:%M:%S}  {tick.line}  missed: {tick.missed}"
        for tick in ticks
    ]


def _ticks() -> "list[Tick]":
    return [tick for module in MODULES for tick in module.load_ticks()]
