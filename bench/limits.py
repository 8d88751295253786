"""The limits: the same work on the same tables by bare asyncpg, with nothing of ours around it."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec
import uvloop

from kinfolk.modules.citizens.register import Register
from kinfolk.modules.citizens.statements import CITIZEN_COLUMNS, TIE_COLUMNS

T = TypeVar("T")

_PAGE = bytes(8_192)

CITIZENS = """
SELECT citizen_id, town, street, building, apartment, name, birth_date, gender
FROM citizens WHERE import_id = $1 ORDER BY citizen_id
"""
TIES = "SELECT low_id, high_id FROM ties WHERE import_id = $1 ORDER BY low_id, high_id"

# Of six. Months before the join, ties turned round by arrays instead of a union, and a row a month take 0.6 of the time
# of the plain join with a row a buyer.
BIRTHDAYS = """
SELECT month, array_agg(buyer), array_agg(presents)
FROM (
    SELECT born_in.month, buyer, count(*) AS presents
    FROM (
        SELECT unnest(ARRAY[low_id, high_id]) AS buyer,
               unnest(ARRAY[high_id, CASE WHEN low_id <> high_id THEN low_id END]) AS born
        FROM ties WHERE import_id = $1
    ) AS both_sides
    JOIN (
        SELECT citizen_id, date_part('month', birth_date)::int AS month
        FROM citizens WHERE import_id = $1 OFFSET 0
    ) AS born_in ON born_in.citizen_id = born
    GROUP BY 1, 2 ORDER BY 1, 2
) AS presents_of GROUP BY month
"""

# Of five. It is the age of each citizen that costs (percentile_cont over ages takes 1.4 times as long), and only those
# of the six neighbours of the three percentiles are needed.
PERCENTILES = """
WITH towns AS MATERIALIZED (
    SELECT town, array_agg(birth_date) AS dates, count(*)::int AS size FROM citizens WHERE import_id = $1 GROUP BY town
),
sorted AS MATERIALIZED (
    SELECT town, size, ARRAY(SELECT each FROM unnest(dates) AS each ORDER BY each DESC) AS dates FROM towns
)
SELECT town, ARRAY(
    SELECT (below + (above - below) * (place - floor(place)))::float8
    FROM unnest(ARRAY[50, 75, 99]) AS percent,
         LATERAL (SELECT (size - 1) * percent / 100.0 AS place) AS placed,
         LATERAL (
             SELECT date_part('year', age($2::date, dates[floor(place)::int + 1])) AS below,
                    date_part('year', age($2::date, dates[ceil(place)::int + 1])) AS above
         ) AS ages
    ORDER BY percent
) FROM sorted
"""

# All that a PATCH of a name does, in one round trip and one commit.
RENAMED = """
WITH changed AS (UPDATE imports SET version = version + 1 WHERE import_id = $1 RETURNING version),
     renamed AS (UPDATE citizens SET name = $3 WHERE import_id = $1 AND citizen_id = $2 RETURNING *)
SELECT renamed.*, changed.version,
       ARRAY(SELECT high_id FROM ties WHERE import_id = $1 AND low_id = $2
             UNION SELECT low_id FROM ties WHERE import_id = $1 AND high_id = $2 ORDER BY 1)
FROM renamed, changed
"""

REMOVED = """
WITH import AS (DELETE FROM imports WHERE import_id = $1), tied AS (DELETE FROM ties WHERE import_id = $1)
DELETE FROM citizens WHERE import_id = $1
"""


class Shown(msgspec.Struct, gc=False):
    """A citizen as encoded."""

    citizen_id: int
    town: str
    street: str
    building: str
    apartment: int
    name: str
    birth_date: date
    gender: str
    relatives: list[int]


shown: Callable[..., Shown] = Shown


class Disk:
    """What a commit can cost at best: a page of PostgreSQL's, written where its data lie, and on disk for sure."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "page", os.O_RDWR | os.O_CREAT, 0o600)
        self.write(1)

    def write(self, times: int) -> None:
        for _ in range(times):
            os.pwrite(self._file, _PAGE, 0)
            os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


class Bare:
    """asyncpg on an event loop that runs for one piece of work at a time, so that rounds can alternate."""

    def __init__(self, pg_url: str, *, connections: int = 1) -> None:
        self._loop = uvloop.new_event_loop()
        self._all = [self.do(asyncpg.connect(pg_url)) for _ in range(connections)]
        self._conn = self._all[0]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        for conn in self._all:
            self.do(conn.close())
        self._loop.close()

    def analyze(self) -> None:
        """Statistics for the planner: the limit is what PostgreSQL can do, not what it does without them."""
        self.do(self._conn.execute("ANALYZE"))

    def version(self) -> str:
        return str(self.do(self._conn.fetchval("SHOW server_version")))

    def copy(self, register: Register) -> int:
        """Binary COPY of a register into the same tables in one transaction; returns the import's number."""
        return self.do(self._copy(register))

    async def _copy(self, register: Register) -> int:
        async with self._conn.transaction():
            import_id = await self._conn.fetchval("INSERT INTO imports (version) VALUES (1) RETURNING import_id")
            await self._conn.copy_records_to_table(
                "citizens", records=[(import_id, *row) for row in register.citizens], columns=CITIZEN_COLUMNS
            )
            await self._conn.copy_records_to_table(
                "ties", records=[(import_id, *row) for row in register.ties], columns=TIE_COLUMNS
            )
        return int(import_id)

    def read(self, import_id: int) -> tuple[list[Any], list[Any]]:
        """The rows of an import's citizens and ties, by two selects."""
        return self.do(self._read(import_id))

    async def _read(self, import_id: int) -> tuple[list[Any], list[Any]]:
        return await self._conn.fetch(CITIZENS, import_id), await self._conn.fetch(TIES, import_id)

    def read_and_encode(self, import_id: int) -> bytes:
        """The same, merged and as JSON by msgspec, dates in the form that costs it nothing."""
        rows, ties = self.read(import_id)
        relatives: dict[int, list[int]] = {row[0]: [] for row in rows}
        for low_id, high_id in ties:
            relatives[low_id].append(high_id)
            if low_id != high_id:
                relatives[high_id].append(low_id)
        return msgspec.json.encode({"data": [shown(*row, relatives[row[0]]) for row in rows]})

    def remove(self, import_id: int) -> None:
        """Both ties and citizens, in one round trip and one commit."""
        self.do(self._conn.execute(REMOVED, import_id))

    def birthdays(self, import_id: int) -> list[Any]:
        return self.do(self._conn.fetch(BIRTHDAYS, import_id))

    def percentiles(self, import_id: int, today: date) -> list[Any]:
        return self.do(self._conn.fetch(PERCENTILES, import_id, today))

    def rename(self, import_id: int, citizen_id: int, name: str) -> None:
        row = self.do(self._conn.fetchrow(RENAMED, import_id, citizen_id, name))
        assert row is not None

    def rename_together(self, import_ids: Sequence[int], citizen_id: int, each: int, name: str) -> None:
        """Each connection renames a citizen of its own import, several times, all connections at once."""

        async def one(conn: Any, import_id: int) -> None:
            for _ in range(each):
                await conn.fetchrow(RENAMED, import_id, citizen_id, name)

        async def together() -> None:
            await asyncio.gather(*map(one, self._all, import_ids))

        self.do(together())
