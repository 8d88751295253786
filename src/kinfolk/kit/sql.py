"""Statements: written in SQLAlchemy Core, compiled once at import to asyncpg's `$n` form, run by asyncpg itself."""

from collections.abc import Sequence
from time import perf_counter
from typing import Annotated, Any

from asyncpg import Record
from msgspec import Meta
from sqlalchemy import BindParameter, ClauseElement, ColumnElement, bindparam, func, literal_column
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from kinfolk.kit.db import Connection
from kinfolk.kit.log import spent

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2020-11-21T15:04:05+00:00"])]

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


def param(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]] | None = None) -> BindParameter[Any]:
    """A value that the caller of the statement gives by this name."""
    return bindparam(name, type_=type_, required=True)


def moment(column: ColumnElement[Any]) -> ColumnElement[str]:
    """A timestamp as a `Moment`: our sessions are in UTC."""
    return func.to_char(column, literal_column("""'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'"""))


class Statement:
    """One compiled statement; the values of its parameters are keywords, and a missing one is a KeyError."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        assert "__[POSTCOMPILE" not in self.text, "an IN whose length only the call knows: write = any_(param(…))"
        self.names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._constants = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}

    def _arguments(self, values: dict[str, Any]) -> list[Any]:
        if self._constants:
            values = self._constants | values
        return [values[name] for name in self.names]

    async def fetch(self, conn: Connection, **values: Any) -> list[Any]:
        """All rows, which are asyncpg's records: tuples whose members have names, too."""
        begun = perf_counter()
        try:
            return await conn.fetch(self.text, *self._arguments(values))
        finally:
            spent(perf_counter() - begun)

    async def fetchrow(self, conn: Connection, **values: Any) -> Record | None:
        """The first row, or None."""
        begun = perf_counter()
        try:
            return await conn.fetchrow(self.text, *self._arguments(values))
        finally:
            spent(perf_counter() - begun)

    async def fetchval(self, conn: Connection, **values: Any) -> Any:
        """The first value of the first row, or None."""
        row = await self.fetchrow(conn, **values)
        return None if row is None else row[0]

    async def execute(self, conn: Connection, **values: Any) -> None:
        """Run it for its effect, on all rows."""
        await self.fetch(conn, **values)

    async def executemany(self, conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run it once a row of values, in one round trip."""
        begun = perf_counter()
        try:
            await conn.executemany(self.text, [self._arguments(row) for row in rows])
        finally:
            spent(perf_counter() - begun)


def sql(statement: ClauseElement) -> Statement:
    """Compile a statement; a name that is not in the tables fails here, at import."""
    return Statement(statement)
