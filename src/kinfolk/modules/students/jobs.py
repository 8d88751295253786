"""What is done for students later, or because the clock says so."""

from kinfolk.kit.db import Connection
from kinfolk.kit.halving import spared
from kinfolk.kit.jobs import job
from kinfolk.kit.log import note
from kinfolk.kit.schedule import Tick
from kinfolk.modules.students.statements import NEXT_ACTIVE, TOUCHED, WELCOMED


@job(name="students.welcome")
async def welcome(conn: Connection, *, student_id: int) -> None:
    """Welcome a student, once: where a letter would be owed, the moment is noted."""
    await WELCOMED.execute(conn, student_id=student_id)


@job(name="students.touch")
async def touch(conn: Connection, *, above: int = 0, at_once: int = 1_000) -> list[int]:
    """Touch the next active students, pass by who is locked, and owe the rest; returns who cannot be touched."""
    numbers = [row[0] for row in await NEXT_ACTIVE.fetch(conn, after=above, limit=at_once)]
    if len(numbers) == at_once:
        await touch.later(conn, above=numbers[-1], at_once=at_once)
    failed = await spared(conn, numbers, lambda some: TOUCHED.execute(conn, numbers=some))
    note(touched=len(numbers) - len(failed), failed=len(failed))
    return failed


JOBS = [welcome, touch]
TICKS = [Tick("students.touch", "*/5 * * * *", touch)]
