"""Adding, finding, renaming and removing students."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.log import Origin
from kinfolk.kit.statement import Moment
from kinfolk.modules.students.jobs import welcome
from kinfolk.modules.students.statements import ACTIVE, ADDED, AMONG, REMOVED, RENAMED


class NoSuchStudent(problems.NotFound):
    """There is no such student."""


class NewStudent(Struct, frozen=True, forbid_unknown_fields=True):
    """What is told of a student, by HTTP or by a message."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class Student(Struct, frozen=True, rename={"student_id": "id", "is_active": "active"}):
    """A student; one who was removed is no longer active."""

    student_id: int
    name: str
    is_active: bool
    created_at: Moment
    updated_at: Moment


async def add(conn: Connection, new: Sequence[tuple[NewStudent, Origin]]) -> list[Student]:
    """Add students in this order, each with what it goes back to, and owe each a welcome."""
    added = [Student(*row) for row in await ADDED.fetch(conn, names=[one.name for one, _ in new])]
    welcomes = [{"student_id": student.student_id} for student in added]
    await welcome.later_each(conn, welcomes, origins=[origin for _, origin in new])
    return added


async def find(conn: Connection, numbers: Sequence[int]) -> list[Student | NoSuchStudent]:
    """Each student in its place, active or not."""
    found = {row[0]: Student(*row) for row in await AMONG.fetch(conn, numbers=numbers)}
    return [found.get(number) or NoSuchStudent(student_id=number) for number in numbers]


async def list_active(conn: Connection, limit: int, after: int) -> list[Student]:
    """Active students by id, those above `after`."""
    return [Student(*row) for row in await ACTIVE.fetch(conn, limit=limit, after=after)]


async def rename(conn: Connection, student_id: int, change: NewStudent) -> Student:
    """Give a student another name. Raises NoSuchStudent."""
    absent = NoSuchStudent(student_id=student_id)
    return Student(*await RENAMED.fetchrow_or(conn, absent, student_id=student_id, name=change.name))


async def remove(conn: Connection, student_id: int) -> None:
    """Let a student be no longer active; a second time, too. Raises NoSuchStudent."""
    await REMOVED.fetchrow_or(conn, NoSuchStudent(student_id=student_id), student_id=student_id)
