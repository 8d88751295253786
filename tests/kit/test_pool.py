"""The process beside: calls that wait for it, work that it does, and what is told when it dies."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import pytest
from tests.waiting import until

from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.log import facts, note, spent
from kinfolk.kit.pool import OutcomeUnknown, Pool, WorkDied, new_line
from kinfolk.kit.problems import BadPlace, InvalidDocument, NotFound

LIFE = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
from kinfolk.kit import pool
pool.IDLE_SECONDS = float(sys.argv[3])
pool.reader(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])(print)
"""


class Beside:
    """A pool, and as many processes for it as are begun."""

    def __init__(self, db: Database, url: str) -> None:
        self.calls, self.taken = new_line()
        self.pool = Pool(db, self.calls)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._url = url

    def begin(self, idle_seconds: float = 60) -> subprocess.Popen[bytes]:
        number = self.taken.fileno()
        words = [sys.executable, "-c", LIFE, str(number), self._url, str(idle_seconds)]
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}  # by which it finds the work of this file
        self.processes.append(subprocess.Popen(words, pass_fds=[number], env=os.environ | path))
        return self.processes[-1]

    def end(self) -> None:
        for process in self.processes:
            process.terminate()  # so that it can write down what was measured
            process.wait(60)
        self.calls.close()
        self.taken.close()

    async def run(self, read: Any, operation: Any, *, may_repeat: bool = False) -> Any:
        with document(b"a document") as file:
            return await self.pool.run(read, operation, file, may_repeat=may_repeat)


@contextmanager
def document(body: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(body)
        yield file


@pytest.fixture
async def beside(db: Database, pg_url: str) -> AsyncIterator[Beside]:
    beside = Beside(db, pg_url)
    yield beside
    beside.end()


def whole(body: mmap) -> tuple[bytes]:
    return (body[:],)


def marked(body: mmap, path: str) -> tuple[str]:
    return (path,)


async def pid(_conn: Connection, _body: bytes) -> int:
    return os.getpid()


async def echo(_conn: Connection, body: bytes) -> bytes:
    return body


async def kept(conn: Connection, body: bytes) -> int:
    """Leave something in the database."""
    note(body=len(body))
    spent(1.5)
    return await conn.fetchval("INSERT INTO imports (version) VALUES (77) RETURNING import_id")


async def refused(conn: Connection, body: bytes) -> None:
    await kept(conn, body)
    raise NotFound("nowhere", place=7)


async def refused_at_length(_conn: Connection, _body: bytes) -> None:
    raise InvalidDocument([BadPlace(f"/{number}", "ж" * 1_000) for number in range(500)], 600)


async def failing(conn: Connection, body: bytes) -> None:
    await kept(conn, body)
    raise ZeroDivisionError


async def dying(conn: Connection, path: str) -> int:
    """Die in the middle, as often as there are marks at `path`."""
    await kept(conn, b"")
    marks = sorted(Path(path).iterdir())
    if marks:
        marks[0].unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


async def dying_late(conn: Connection, path: str) -> int:
    """Die after the operation, when its transaction is about to be committed."""
    marks = sorted(Path(path).iterdir())
    if marks:
        marks[0].unlink()
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
    return os.getpid()


async def slow(conn: Connection, path: str) -> None:
    """Wait until there is a mark."""
    await kept(conn, b"")
    Path(path, "began").touch()
    while not Path(path, "go on").exists():
        await asyncio.sleep(0.01)


async def count(db: Database) -> int:
    async with db.connection() as conn:
        return await conn.fetchval("SELECT count(*) FROM imports WHERE version = 77")


def marks(folder: Path, number: int) -> str:
    for each in range(number):
        (folder / str(each)).touch()
    return str(folder)


async def test_work_is_done_in_the_other_process_and_committed(beside: Beside, db: Database) -> None:
    process = beside.begin()
    assert await beside.run(whole, pid) == process.pid
    assert await beside.run(whole, echo) == b"a document"
    before = await count(db)
    with facts() as line:
        assert await beside.run(whole, kept) > 0
    assert line == {"body": 10, "db_ms": 1_500.0}
    assert await count(db) == before + 1


@pytest.mark.parametrize("is_beside", [True, False], ids=["beside", "here"])
async def test_what_is_refused_leaves_nothing(beside: Beside, db: Database, is_beside: bool) -> None:
    if is_beside:
        beside.begin()
    else:
        beside.pool = Pool(db)
    before = await count(db)
    with pytest.raises(NotFound) as refusal:
        await beside.run(whole, refused)
    assert (refusal.value.detail, refusal.value.facts) == ("nowhere", {"place": 7})
    with pytest.raises(InvalidDocument) as long_refusal:
        await beside.run(whole, refused_at_length)
    assert (len(long_refusal.value.facts["errors"]), long_refusal.value.facts["error_count"]) == (500, 600)
    with pytest.raises(ZeroDivisionError) as accident:
        await beside.run(whole, failing)
    if is_beside:
        assert "raise ZeroDivisionError" in accident.value.__notes__[0]
    assert await count(db) == before
    await beside.run(whole, kept)
    assert await count(db) == before + 1


async def test_calls_wait_for_a_process_however_many(beside: Beside) -> None:
    asking = [asyncio.ensure_future(beside.run(whole, pid)) for _ in range(300)]
    await asyncio.sleep(0.2)  # more than the socket holds
    pids = {beside.begin().pid, beside.begin().pid}
    assert set(await asyncio.gather(*asking)) <= pids


async def test_who_gave_up_while_waiting_is_not_served(beside: Beside, db: Database) -> None:
    before = await count(db)
    asking = asyncio.ensure_future(beside.run(whole, kept))
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait([asking])
    beside.begin()
    await beside.run(whole, echo)  # what came before has had its turn
    assert await count(db) == before


async def test_the_work_of_one_who_gives_up_is_not_committed(beside: Beside, db: Database, tmp_path: Path) -> None:
    beside.begin()
    before = await count(db)
    asking = asyncio.ensure_future(beside.run(partial(marked, path=str(tmp_path)), slow))
    await until((tmp_path / "began").exists)
    asking.cancel()
    await asyncio.wait([asking])
    (tmp_path / "go on").touch()
    await beside.run(whole, echo)
    assert await count(db) == before


@pytest.mark.parametrize("may_repeat", [True, False])
async def test_work_that_dies_before_it_commits_is_done_once_more(
    beside: Beside, db: Database, tmp_path: Path, may_repeat: bool
) -> None:
    before = await count(db)
    folder = marks(tmp_path, 1)
    first, second = beside.begin(), beside.begin()
    answer = await beside.run(partial(marked, path=folder), dying, may_repeat=may_repeat)
    assert answer in {first.pid, second.pid}
    assert await count(db) == before + 1


async def test_work_that_dies_twice_is_refused(beside: Beside, db: Database, tmp_path: Path) -> None:
    before = await count(db)
    beside.begin(), beside.begin()
    with pytest.raises(WorkDied) as refusal:
        await beside.run(partial(marked, path=marks(tmp_path, 2)), dying, may_repeat=True)
    assert refusal.value.status == 503
    assert await count(db) == before


async def test_what_may_have_been_committed_is_repeated_only_where_it_may(beside: Beside, tmp_path: Path) -> None:
    beside.begin()
    with pytest.raises(OutcomeUnknown) as refusal:
        await beside.run(partial(marked, path=marks(tmp_path, 1)), dying_late)
    assert refusal.value.status == 503
    pids = {beside.begin().pid, beside.begin().pid}
    assert await beside.run(partial(marked, path=marks(tmp_path, 1)), dying_late, may_repeat=True) in pids


async def test_where_nobody_can_take_it_any_more_it_is_refused_at_once(beside: Beside) -> None:
    beside.taken.close()
    with pytest.raises(WorkDied):
        await beside.run(whole, echo)


async def test_a_database_that_is_away_is_told_so(db: Database) -> None:
    beside = Beside(db, "postgresql://127.0.0.1:1/nowhere")
    beside.begin()
    with pytest.raises(DatabaseAway):
        await beside.run(whole, echo)
    beside.end()


async def test_a_lost_connection_is_replaced(beside: Beside, db: Database) -> None:
    beside.begin()
    before = await count(db)
    asking = asyncio.ensure_future(beside.run(whole, sleeping))
    async with asyncio.timeout(60), db.connection() as conn:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(59)%'"
        while not await conn.fetchval(query):
            await asyncio.sleep(0.01)
    with pytest.raises(DatabaseAway):
        await asking
    assert await beside.run(whole, kept) > 0
    assert await count(db) == before + 1


async def sleeping(conn: Connection, body: bytes) -> None:
    await kept(conn, body)
    await conn.execute("SELECT pg_sleep(59)")


async def test_it_ends_when_nothing_is_left_to_do(beside: Beside) -> None:
    process = beside.begin(idle_seconds=0.3)
    assert await beside.run(whole, pid) == process.pid
    assert await asyncio.to_thread(process.wait, 60) == 0


async def test_its_session_is_as_all_others(beside: Beside) -> None:
    beside.begin()
    assert await beside.run(whole, session) == await beside_less(beside)


async def session(conn: asyncpg.Connection, _body: bytes) -> list[str]:
    return [await conn.fetchval(f"SHOW {name}") for name in ("application_name", "timezone", "jit", "enable_seqscan")]


async def beside_less(beside: Beside) -> list[str]:
    async with beside.pool._db.connection() as conn:
        return await session(conn, b"")
