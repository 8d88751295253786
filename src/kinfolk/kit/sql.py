"""Statements: written in SQLAlchemy Core in files called `statements.py`, and compiled once, at import."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, ClauseElement, Column, ColumnElement, MetaData, bindparam, func, literal_column
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from kinfolk.kit.statement import Statement

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""In which every module's tables stand."""

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


def param(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]] | None = None) -> BindParameter[Any]:
    """A value that the caller of the statement gives by this name."""
    return bindparam(name, type_=type_, required=True)


def moment(column: ColumnElement[Any]) -> ColumnElement[str]:
    """A timestamp as a `Moment`: our sessions are in UTC."""
    return func.to_char(column, literal_column("""'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'"""))


def sql(statement: ClauseElement) -> Statement:
    """Compile a statement; a name that is not in the tables fails here, at import."""
    compiled = statement.compile(dialect=_DIALECT)
    assert isinstance(compiled, SQLCompiler)
    text = str(compiled)
    assert "__[POSTCOMPILE" not in text, "an IN whose length only the call knows: write = any_(param(…))"
    constants = {str(name): bind.effective_value for name, bind in compiled.binds.items() if not bind.required}
    return Statement(text, [str(name) for name in compiled.positiontup or ()], constants)


def names_of(columns: Iterable[Column[Any]]) -> tuple[str, ...]:
    """Their names, as COPY takes them: strings, not SQLAlchemy's own kind of them."""
    return tuple(str(each.name) for each in columns)
