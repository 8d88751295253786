"""Large registers on their way while something breaks: all or nothing, nobody waits for ever, nothing is left."""

import asyncio
import os
import pwd
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
from tests.postgres_places import IS_ROOT, open_directory
from tests.running import Service
from tests.waiting import until

from kinfolk.kit.http.bodies import SMALL_BYTES
from kinfolk.modules.citizens.example_register import generate

CITIZENS = 2_000
LARGE = b"".join(generate(CITIZENS, 1)) + b" " * SMALL_BYTES  # too large to be kept in memory
AT_COMMIT = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON imports DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION hold()
"""


def readers(service: Service) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it may end this moment
            if "kinfolk reader" in " ".join(process.cmdline()):
                found.append(process)
    return found


async def post(service: Service, body: bytes = LARGE, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"idempotency-key": key}
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        return await client.post("/imports", content=body, headers=headers)


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    made: str = make_database("reader")
    return made


@pytest.fixture(scope="module")
def service(url: str) -> Iterator[Service]:
    with Service("api", "--pg-url", url) as service:
        yield service


@pytest.fixture
async def conn(url: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(url)
    yield conn
    await conn.close()


async def sizes(conn: asyncpg.Connection) -> list[tuple[int, int]]:
    """Of each import, and of those that citizens without one name: how many citizens it has."""
    rows = await conn.fetch(
        "SELECT import_id, count(citizen_id) FROM imports FULL JOIN citizens USING (import_id)"
        " GROUP BY import_id ORDER BY import_id"
    )
    return [tuple(row) for row in rows]


@asynccontextmanager
async def held(conn: asyncpg.Connection, what: str) -> AsyncIterator[Callable[[], Any]]:
    """A lock in the way; what is given waits until so many of the service wait for it."""

    async def wait(number: int = 1) -> None:
        async with asyncio.timeout(60):
            query = f"SELECT count(*) {WAITING}"  # what pg_stat_activity shows does not change in a transaction
            while await conn.fetchval(query) < number:
                await asyncio.sleep(0.01)

    async with conn.transaction():
        await conn.execute(what)
        yield wait


WAITING = """
    FROM pg_locks WHERE NOT granted AND pid IN (
        SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database()
    )
"""
IN_COPY = "LOCK TABLE citizens IN SHARE MODE"


async def test_a_process_is_there_when_it_is_needed(service: Service) -> None:
    answers = await asyncio.gather(*(post(service) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    (reader,) = readers(service)
    assert await asyncio.to_thread(reader.wait, 60) in {0, None}
    assert (await post(service)).status_code == 201
    service.never_said("level=warning")


async def test_one_killed_during_copy_is_replaced_and_nothing_is_added_twice(
    service: Service, conn: asyncpg.Connection
) -> None:
    before = await sizes(conn)
    async with held(conn, IN_COPY) as wait:
        asking = asyncio.ensure_future(post(service))
        await wait()
        (first,) = readers(service)
        first.kill()
        await wait(2)  # PostgreSQL has not noticed yet that the first is gone
        (second,) = readers(service)
    assert (await asking).status_code == 201
    assert second.pid != first.pid
    after = await sizes(conn)
    assert after[:-1] == before
    assert after[-1][1] == CITIZENS


async def test_what_is_killed_again_is_refused_and_changes_nothing(service: Service, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    async with held(conn, IN_COPY) as wait:
        asking = asyncio.ensure_future(post(service))
        for number in (1, 2):
            await wait(number)
            (reader,) = readers(service)
            reader.kill()
        answer = await asking
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/work-died")
    assert int(answer.headers["retry-after"]) > 0
    assert await sizes(conn) == before
    assert (await post(service)).status_code == 201


@pytest.mark.parametrize("key", [None, "the-same"])
async def test_one_killed_at_the_commit_adds_nothing_twice(
    service: Service, conn: asyncpg.Connection, key: str | None
) -> None:
    """The commit comes through although whoever asked for it is dead: only a key makes it safe to ask again."""
    before = await sizes(conn)
    await conn.execute(AT_COMMIT)
    try:
        async with held(conn, "SELECT pg_advisory_xact_lock(7)") as wait:
            asking = asyncio.ensure_future(post(service, key=key))
            await wait()
            (reader,) = readers(service)
            reader.kill()
            if key is None:
                answer = await asking
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
            else:
                await wait(2)
    finally:
        await conn.execute("DROP FUNCTION hold CASCADE")
    if key is not None:
        assert (await asking).status_code == 201
    after = await sizes(conn)
    assert after[: len(before)] == before
    assert [size for _, size in after[len(before) :]] == [CITIZENS]
    if key is not None:
        assert (await asking).json()["data"]["import_id"] == after[-1][0]


async def test_a_connection_killed_during_copy_changes_nothing(service: Service, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    async with held(conn, IN_COPY) as wait:
        asking = asyncio.ensure_future(post(service))
        await wait()
        assert await conn.fetchval(f"SELECT count(pg_terminate_backend(pid)) {WAITING}") == 1
        answer = await asking
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-away")
    assert await sizes(conn) == before
    assert (await post(service)).status_code == 201


async def test_one_upload_too_many_is_told_and_the_others_are_taken(service: Service, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    async with held(conn, IN_COPY) as wait:
        asking = [asyncio.ensure_future(post(service)) for _ in range(9)]
        await wait()
        await until(lambda: sum(one.done() for one in asking) == 5)
    answers = await asyncio.gather(*asking)
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 5
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-many-uploads")
        assert int(answer.headers["retry-after"]) > 0
    assert [size for _, size in (await sizes(conn))[len(before) :]] == [CITIZENS] * 4


async def test_half_a_body_leaves_nothing(service: Service, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    (worker,) = service.workers

    def files() -> int:
        return sum("(deleted)" in str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir())

    await until(lambda: files() == 0)
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"POST /imports HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n" + LARGE)
    await writer.drain()
    await until(lambda: files() == 1)
    writer.close()
    await until(lambda: files() == 0)
    assert await sizes(conn) == before


async def test_a_full_disk_is_told_and_changes_nothing(url: str, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    room = SMALL_BYTES + 2_000_000

    def limit_files() -> None:  # the kernel says EFBIG where a full disk says ENOSPC
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    with Service("api", "--pg-url", url, preexec_fn=limit_files) as service:
        answer = await post(service, LARGE + b" " * room)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-room")
        assert await sizes(conn) == before
        assert (await post(service)).status_code == 201


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ctrl_c_lets_what_is_under_way_finish(url: str, conn: asyncpg.Connection, number: int) -> None:
    """Also what the process has not begun with yet; a terminal tells all of them at once."""
    with Service("api", "--pg-url", url, start_new_session=True) as service:
        async with held(conn, IN_COPY) as wait:
            asking = [asyncio.ensure_future(post(service)) for _ in range(2)]
            await wait()
            family = psutil.Process(service.process.pid).children(recursive=True)
            if number == signal.SIGINT:
                os.killpg(service.process.pid, number)
            else:
                service.process.send_signal(number)
            await asyncio.sleep(0.3)
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [201, 201]
        assert await asyncio.to_thread(service.process.wait, 60) == 0
        service.never_said(" level=error ")
    assert len(family) == 2
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


async def test_nobody_outlives_a_killed_parent(url: str, conn: asyncpg.Connection) -> None:
    before = await sizes(conn)
    with Service("api", "--pg-url", url) as service:
        async with held(conn, IN_COPY) as wait:
            asking = asyncio.ensure_future(post(service))
            await wait()
            family = psutil.Process(service.process.pid).children(recursive=True)
            assert len(family) == 2
            service.process.kill()
            _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=60)
            assert alive == []
        assert (await asking).json()["type"] == "/problems/work-died"  # the worker ended as it is asked to
        service.process.wait()
    assert await sizes(conn) == before


async def test_it_begins_also_as_another_user(url: str) -> None:
    with open_directory() as folder:
        folder.chmod(0o777)
        environment = {"TMPDIR": str(folder)}
        user = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())  # who is not root can stay who it is
        with Service("api", "--user", user.pw_name, "--pg-url", url, environment=environment) as service:
            assert (await post(service)).status_code == 201
            (reader,) = readers(service)
            assert set(reader.uids()) == {user.pw_uid}


async def test_one_killed_at_rest_is_replaced(url: str) -> None:
    with Service("api", "--pg-url", url) as service:  # the more have died, the longer the next one is in coming
        for _ in range(3):
            assert (await post(service)).status_code == 201
            (reader,) = readers(service)
            reader.kill()
            await until(lambda: not readers(service))
