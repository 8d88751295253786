"""What is done for students later, or because the clock says so."""

from kinfolk.kit.db import Connection
from kinfolk.kit.halving import spared
from kinfolk.kit.jobs import job
from kinfolk.kit.log import note
from kinfolk.kit.schedule import Tick
from kinfolk.modules.students.statements import NEXT_ACTIVE, TOUCHED, WELCOMED

MOST_TOUCHED_AT_ONCE = 1_000


@job(name="students.welcome")
async def welcome(conn: Connection, *, student_id: int) -> None:
    """Welcome a student, once: where a letter would be owed, the moment is noted."""
    await WELCOMED.execute(conn, student_id=student_id)


@job(name="students.touch")
async def touch(conn: Connection, *, above: int = 0) -> list[int]:
    """Touch the next active students and owe the rest, so that nobody is locked for long; returns who cannot be.

    Who is locked is being changed anyway, and is passed by.
    """
    numbers = [row[0] for row in await NEXT_ACTIVE.fetch(conn, after=above, limit=MOST_TOUCHED_AT_ONCE)]
    if len(numbers) == MOST_TOUCHED_AT_ONCE:
        await touch.later(conn, above=numbers[-1])
    failed = await spared(conn, numbers, lambda some: TOUCHED.execute(conn, numbers=some))
    note(touched=len(numbers) - len(failed), failed=len(failed))
    return failed


JOBS = [welcome, touch]
TICKS = [Tick("students.touch", "*/5 * * * *", touch)]
