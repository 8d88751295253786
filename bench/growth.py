"""Ten million citizens: a database with a thousand imports beside one with hardly any, under the same service."""

import asyncio
import itertools
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.bars import Bar
from bench.operations import OURS, Comparison, Experiment, Service
from bench.rounds import Contender
from bench.servers import kinfolk_api
from kinfolk.kit.migrate import upgrade
from kinfolk.modules.citizens.statements import CITIZEN_COLUMNS, TIE_COLUMNS

COPIERS = 2
ONE_OVER_HTTP_IN = 10
BYTES_A_CITIZEN = 800
"""Of disk: the rows, their indexes and what the WAL may keep."""
CALM_SECONDS = 60
MOST_TIMES = Bar("times", 1.3)

_SIGNATURE_BYTES, _END = 19, b"\xff\xff"
_NEW_IMPORT = "INSERT INTO imports (version) VALUES (1) RETURNING import_id"
_TIDYING = "SELECT count(*) FROM pg_stat_progress_vacuum UNION ALL SELECT count(*) FROM pg_stat_progress_analyze"


class Copied:
    """The rows that an import has in a table, as binary COPY writes them, to be loaded again under other numbers.

    https://www.postgresql.org/docs/current/sql-copy.html: each row is a count of fields and the fields, each of them
    its length and its bytes; the number of the import is the first.
    """

    def __init__(self, table: str, columns: Sequence[str], written: bytes) -> None:
        self._table, self._columns = table, columns
        self._head = written[:_SIGNATURE_BYTES]
        self._rows = list(_rows_without_first_field(written))

    async def load(self, conn: asyncpg.Connection, import_id: int) -> None:
        if not self._rows:
            return
        first = struct.pack("!hiq", len(self._columns), 8, import_id)
        content = BytesIO(b"".join((self._head, first, first.join(self._rows), _END)))
        await conn.copy_to_table(self._table, source=content, columns=self._columns, format="binary")


def _rows_without_first_field(written: bytes) -> Iterator[bytes]:
    place = _SIGNATURE_BYTES
    while (fields := struct.unpack_from("!h", written, place)[0]) >= 0:
        start = place = place + struct.calcsize("!hiq")
        for _ in range(fields - 1):
            place += 4 + max(0, struct.unpack_from("!i", written, place)[0])
        yield written[start:place]


@contextmanager
def grown_service(pg_url: str, folder: Path, document: bytes, imports: int) -> Iterator[tuple[Service, int]]:
    """A service on a database of its own on the same server, with so many imports of the document; and its pid."""
    asyncio.run(_execute(pg_url, "CREATE DATABASE grown"))
    url = urlunsplit(urlsplit(pg_url)._replace(path="/grown"))
    upgrade(url)
    with ExitStack() as stack:
        api_url, pid = stack.enter_context(kinfolk_api(url, folder / "grown.log"))
        citizens = imports * document.count(b'"citizen_id"')
        service = stack.enter_context(closing(Service(f"{OURS}, among {citizens:,}", api_url, document)))
        asyncio.run(_fill(url, service, imports - len(service.import_ids)))
        _wait_for_calm(url)
        yield service, pid


def has_room(folder: Path, citizens: int) -> bool:
    return shutil.disk_usage(folder).free > citizens * BYTES_A_CITIZEN * 2


def experiments(few: Service, many: Service, document: str, imports: int) -> Iterator[Experiment]:
    """The same requests to both. What is old was imported long ago: the database hardly has it in its memory."""
    both = (few, many)
    old = many.name.replace("among", "an old one among")
    old_ids = itertools.cycle(range(len(many.import_ids) + 1, max(imports // 2, len(many.import_ids) + 2)))

    def get_old() -> None:
        many.get("citizens", next(old_ids))

    yield Experiment(
        f"POST of {document}",
        [Contender(service.name, service.post) for service in both],
        [Comparison(many.name, few.name, MOST_TIMES)],
    )
    yield Experiment(
        f"GET of {document}, cold",
        [
            *(Contender(service.name, partial(service.get, "citizens"), prepare=service.patch) for service in both),
            Contender(old, get_old),
        ],
        [Comparison(many.name, few.name, MOST_TIMES), Comparison(old, few.name, MOST_TIMES)],
    )


async def _execute(pg_url: str, statement: str) -> None:
    conn = await asyncpg.connect(pg_url)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


async def _fill(pg_url: str, service: Service, imports: int) -> None:
    """Most by COPY over two connections, some over HTTP; each in a transaction, all keys and indexes in place."""
    conns = [await asyncpg.connect(pg_url) for _ in range(COPIERS)]
    tables = [("citizens", CITIZEN_COLUMNS), ("ties", TIE_COLUMNS)]
    copied = [await _copied(conns[0], *table, service.import_id) for table in tables]
    left, begun, posting = iter(range(1, imports + 1)), time.monotonic(), asyncio.Lock()

    async def fill(conn: asyncpg.Connection) -> None:
        for number in left:
            if number % ONE_OVER_HTTP_IN == 0:
                async with posting:
                    await asyncio.to_thread(service.post)
            else:
                async with conn.transaction():
                    import_id = await conn.fetchval(_NEW_IMPORT)
                    for rows in copied:
                        await rows.load(conn, import_id)
            if number % 100 == 0:
                print(f"bench: {number} imports in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)

    try:
        await asyncio.gather(*map(fill, conns))
    finally:
        for conn in conns:
            await conn.close()


async def _copied(conn: asyncpg.Connection, table: str, columns: Sequence[str], import_id: int) -> Copied:
    written = BytesIO()
    named = ", ".join(columns)
    await conn.copy_from_query(
        f"SELECT {named} FROM {table} WHERE import_id = $1", import_id, output=written, format="binary"
    )
    return Copied(table, columns, written.getvalue())


def _wait_for_calm(pg_url: str) -> None:
    """Autovacuum belongs to what was loaded before: let it end, though not for ever."""

    async def wait() -> None:
        conn = await asyncpg.connect(pg_url)
        deadline = time.monotonic() + CALM_SECONDS
        try:
            while time.monotonic() < deadline and any(row[0] for row in await conn.fetch(_TIDYING)):
                await asyncio.sleep(0.5)
        finally:
            await conn.close()

    asyncio.run(wait())
