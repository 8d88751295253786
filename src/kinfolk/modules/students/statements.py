"""What is asked of students."""

from sqlalchemy import BigInteger, Text, any_, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit.sql import moment, param, sql
from kinfolk.modules.students.tables import students

_COLUMNS = (
    students.c.student_id,
    students.c.name,
    students.c.is_active,
    moment(students.c.created_at),
    moment(students.c.updated_at),
)
_IS_MEANT = students.c.student_id == param("student_id")
ADDED = sql(
    insert(students)
    .from_select([students.c.name], select(func.unnest(param("names", ARRAY(Text)))))
    .returning(*_COLUMNS)
)
AMONG = sql(select(*_COLUMNS).where(students.c.student_id == any_(param("numbers", ARRAY(BigInteger)))))
ACTIVE = sql(
    select(*_COLUMNS)
    .where(students.c.is_active, students.c.student_id > param("after"))
    .order_by(students.c.student_id)
    .limit(param("limit"))
)
RENAMED = sql(update(students).where(_IS_MEANT).values(name=param("name"), updated_at=func.now()).returning(*_COLUMNS))
REMOVED = sql(
    update(students).where(_IS_MEANT).values(is_active=False, updated_at=func.now()).returning(students.c.student_id)
)
WELCOMED = sql(
    update(students)
    .where(students.c.student_id == param("student_id"), students.c.welcomed_at.is_(None))
    .values(welcomed_at=func.now())
)
NEXT_ACTIVE = sql(
    select(students.c.student_id)
    .where(students.c.is_active, students.c.student_id > param("above"))
    .order_by(students.c.student_id)
    .limit(param("limit"))
    .with_for_update(skip_locked=True)
)
TOUCHED = sql(
    update(students)
    .where(students.c.student_id == any_(param("numbers", ARRAY(BigInteger))))
    .values(updated_at=func.now())
)
