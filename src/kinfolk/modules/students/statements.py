"""What is asked of students."""

from sqlalchemy import BigInteger, Text, any_, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit.sql import moment, param, sql
from kinfolk.modules.students.tables import students

student = students.c
_TOLD = student.student_id, student.name, student.is_active, moment(student.created_at), moment(student.updated_at)
_EACH_NAME = select(func.unnest(param("names", ARRAY(Text))))
_IS_MEANT = student.student_id == param("student_id")
_IS_AMONG = student.student_id == any_(param("numbers", ARRAY(BigInteger)))
_IS_NEXT = (student.is_active, student.student_id > param("after"))
_NEXT = select(*_TOLD).where(*_IS_NEXT).order_by(student.student_id).limit(param("limit"))
_CHANGED = update(students).where(_IS_MEANT).values(updated_at=func.now())

ADDED = sql(insert(students).from_select([student.name], _EACH_NAME).returning(*_TOLD))
AMONG = sql(select(*_TOLD).where(_IS_AMONG))
ACTIVE = sql(_NEXT)
RENAMED = sql(_CHANGED.values(name=param("name")).returning(*_TOLD))
REMOVED = sql(_CHANGED.values(is_active=False).returning(student.student_id))
WELCOMED = sql(update(students).where(_IS_MEANT, student.welcomed_at.is_(None)).values(welcomed_at=func.now()))
NEXT_ACTIVE = sql(_NEXT.with_only_columns(student.student_id).with_for_update(skip_locked=True))
TOUCHED = sql(update(students).where(_IS_AMONG).values(updated_at=func.now()))
