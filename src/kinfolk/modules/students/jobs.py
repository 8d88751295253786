"""What is done for students later, or because the clock says so."""

from collections.abc import Sequence

from msgspec import Struct

from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.schedule import Tick
from kinfolk.modules.students.statements import NEXT_ACTIVE, TOUCHED, WELCOMED

MOST_TOUCHED_AT_ONCE = 1_000


class Touched(Struct):
    """How many were touched, and who could not be."""

    touched: int
    failed: list[int]


@job(name="students.welcome")
async def welcome(conn: Connection, *, student_id: int) -> None:
    """Welcome a student, once: where a letter would be owed, the moment is noted."""
    await WELCOMED.execute(conn, student_id=student_id)


@job(name="students.touch")
async def touch(conn: Connection, *, above: int = 0) -> Touched:
    """Touch the next active students and owe the rest, so that nobody is locked for longer than one batch takes.

    Who is locked is being changed anyway, and waits for nobody.
    """
    numbers = [row[0] for row in await NEXT_ACTIVE.fetch(conn, above=above, limit=MOST_TOUCHED_AT_ONCE)]
    if len(numbers) == MOST_TOUCHED_AT_ONCE:
        await touch.later(conn, above=numbers[-1])
    failed = await _touch(conn, numbers)
    return Touched(len(numbers) - len(failed), failed)


async def _touch(conn: Connection, numbers: Sequence[int]) -> list[int]:
    """Touch all of them but those who cannot be, who are returned: found by halving, they cost the others little."""
    try:
        async with conn.transaction():
            await TOUCHED.execute(conn, numbers=numbers)
    except Exception:  # whatever is wrong with one must not stop the rest
        if len(numbers) == 1:
            return list(numbers)
        middle = len(numbers) // 2
        return await _touch(conn, numbers[:middle]) + await _touch(conn, numbers[middle:])
    return []


JOBS = [welcome, touch]
TICKS = [Tick("students.touch", "*/5 * * * *", touch)]
