"""Where students are kept."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Table, Text, func

from kinfolk.kit.sql import metadata

students = Table(
    "students",
    metadata,
    Column("student_id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("is_active", Boolean, nullable=False, server_default="true"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("welcomed_at", DateTime(timezone=True)),
)
