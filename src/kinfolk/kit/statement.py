"""One statement that was compiled: its text in asyncpg's `$n` form, run by asyncpg itself."""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any

from asyncpg import Record
from msgspec import Meta

from kinfolk.kit.db import Connection
from kinfolk.kit.log import spent
from kinfolk.kit.problems import Problem

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2020-11-21T15:04:05+00:00"])]


class Statement:
    """The values of its parameters are keywords, and a missing one is a KeyError."""

    def __init__(self, text: str, names: Sequence[str], constants: Mapping[str, Any]) -> None:
        """`names` of the values for $1, $2, … in this order; those of `constants` are not the caller's to give."""
        self.text = text
        self.names = tuple(names)
        self._constants = dict(constants)

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

    async def fetchrow_or(self, conn: Connection, problem: Problem, **values: Any) -> Record:
        """The first row. Raises `problem` where there is none."""
        row = await self.fetchrow(conn, **values)
        if row is None:
            raise problem
        return row

    async def fetchval(self, conn: Connection, **values: Any) -> Any:
        """The first value of the first row, or None."""
        row = await self.fetchrow(conn, **values)
        return None if row is None else row[0]

    async def execute(self, conn: Connection, **values: Any) -> None:
        """Run it for its effect, on all rows."""
        await self.fetch(conn, **values)
