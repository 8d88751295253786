"""Adding, finding, renaming and removing students."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import BigInteger, Text, any_, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.log import Origin
from kinfolk.kit.sql import Moment, moment, param, sql
from kinfolk.modules.students.jobs import welcome
from kinfolk.modules.students.tables import students

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class NoSuchStudent(problems.NotFound):
    """There is no such student."""


class NewStudent(Struct, frozen=True, forbid_unknown_fields=True):
    """What is told of a student, by HTTP or by a message."""

    name: Name


class Student(Struct, frozen=True, rename={"student_id": "id", "is_active": "active"}):
    """A student; one who was removed is no longer active."""

    student_id: int
    name: Name
    is_active: bool
    created_at: Moment
    updated_at: Moment


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list."""

    limit: Annotated[int, Meta(ge=1, le=1_000, description="How many at the most.")] = 100
    after: Annotated[int, Meta(ge=0, le=2**63 - 1, description="The id of the last one already seen.")] = 0


COLUMNS = (
    students.c.student_id,
    students.c.name,
    students.c.is_active,
    moment(students.c.created_at),
    moment(students.c.updated_at),
)
IS_MEANT = students.c.student_id == param("student_id")
ADDED = sql(
    insert(students)
    .from_select([students.c.name], select(func.unnest(param("names", ARRAY(Text)))))
    .returning(*COLUMNS)
)
AMONG = sql(select(*COLUMNS).where(students.c.student_id == any_(param("numbers", ARRAY(BigInteger)))))
ACTIVE = sql(
    select(*COLUMNS)
    .where(students.c.is_active, students.c.student_id > param("after"))
    .order_by(students.c.student_id)
    .limit(param("limit"))
)
RENAMED = sql(update(students).where(IS_MEANT).values(name=param("name"), updated_at=func.now()).returning(*COLUMNS))
REMOVED = sql(
    update(students).where(IS_MEANT).values(is_active=False, updated_at=func.now()).returning(students.c.student_id)
)


async def add_students(conn: Connection, new: Sequence[tuple[NewStudent, Origin]]) -> list[Student]:
    """Add students in this order, each with what it goes back to, and owe each a welcome."""
    added = [Student(*row) for row in await ADDED.fetch(conn, names=[one.name for one, _ in new])]
    welcomes = [{"student_id": student.student_id} for student in added]
    await welcome.later_each(conn, welcomes, origins=[origin for _, origin in new])
    return added


async def find_students(conn: Connection, numbers: Sequence[int]) -> list[Student | NoSuchStudent]:
    """Each student in its place, active or not."""
    found = {row[0]: Student(*row) for row in await AMONG.fetch(conn, numbers=numbers)}
    return [found.get(number) or NoSuchStudent(student_id=number) for number in numbers]


async def list_students(conn: Connection, page: Page) -> list[Student]:
    """Active students by id."""
    return [Student(*row) for row in await ACTIVE.fetch(conn, after=page.after, limit=page.limit)]


async def rename_student(conn: Connection, student_id: int, change: NewStudent) -> Student:
    """Give a student another name. Raises NoSuchStudent."""
    row = await RENAMED.fetchrow(conn, student_id=student_id, name=change.name)
    if row is None:
        raise NoSuchStudent(student_id=student_id)
    return Student(*row)


async def remove_student(conn: Connection, student_id: int) -> None:
    """Let a student be no longer active; a second time, too. Raises NoSuchStudent."""
    if await REMOVED.fetchval(conn, student_id=student_id) is None:
        raise NoSuchStudent(student_id=student_id)
