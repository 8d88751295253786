"""Connections and transactions, and the database going away and coming back."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import asyncpg
import httpx
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import copy_of_ready, eventually, open_directory
from tests.running import Service

from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.log import facts
from kinfolk.kit.migrate import upgrade


@pytest.fixture
async def small(pg_url: str) -> AsyncIterator[Database]:
    """Two connections, and little patience."""
    async with Database(pg_url, size=2, wait_seconds=0.3) as small:
        async with small.connection() as conn:
            await conn.execute("DROP TABLE IF EXISTS words; CREATE TABLE words (word text)")
        yield small


async def words(db: Database) -> list[str]:
    async with db.connection() as conn:
        return [row[0] for row in await conn.fetch("SELECT word FROM words ORDER BY word")]


async def test_a_transaction_is_kept_whole_or_not_at_all(small: Database) -> None:
    async with small.transaction() as conn:
        await conn.execute("INSERT INTO words VALUES ('kept')")
        assert await words(small) == []

    async def lose(error: BaseException) -> None:
        async with small.transaction() as conn:
            await conn.execute("INSERT INTO words VALUES ('lost')")
            raise error

    for error in (ValueError("on the way"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await lose(error)
    assert await words(small) == ["kept"]


async def test_a_snapshot_sees_one_state_and_changes_nothing(small: Database) -> None:
    async with small.snapshot() as conn:
        assert await conn.fetchval("SELECT count(*) FROM words") == 0
        async with small.connection() as other:
            await other.execute("INSERT INTO words VALUES ('new')")
        assert await conn.fetchval("SELECT count(*) FROM words") == 0
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await conn.execute("INSERT INTO words VALUES ('mine')")
    assert await words(small) == ["new"]


async def test_connections_are_set_up(small: Database) -> None:
    async with small.connection() as conn:
        shown = [await conn.fetchval(f"SHOW {name}") for name in ("jit", "timezone", "application_name")]
    assert shown == ["off", "UTC", "kinfolk"]


async def test_who_waits_for_a_connection_gets_it_or_is_told(small: Database) -> None:
    async with small.connection(), small.connection():
        begun = time.monotonic()
        with facts() as noted, pytest.raises(DatabaseAway) as away:
            async with small.connection():
                pytest.fail("there are only two")
        assert time.monotonic() - begun > 0.2
        assert away.value.answer_headers() == {"retry-after": "5"}
        assert noted["database"].startswith("TimeoutError")

    async def hold() -> None:
        async with small.connection():
            await asyncio.sleep(0.05)

    await asyncio.gather(*(hold() for _ in range(4)))


@pytest.mark.parametrize(
    "error", [TimeoutError("of an outside service"), ConnectionResetError("of somebody else"), OSError("a full disk")]
)
async def test_what_has_nothing_to_do_with_the_database_stays_what_it_is(small: Database, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        async with small.transaction():
            raise error


async def test_a_mistake_of_ours_is_no_absence(small: Database) -> None:
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        async with small.transaction() as conn:
            await conn.fetch("SELECT $1::int")
    with pytest.raises(asyncpg.UndefinedTableError):
        async with small.transaction() as conn:
            await conn.fetch("SELECT * FROM nowhere")


@pytest.mark.parametrize("is_within", [True, False], ids=["within a statement", "between statements"])
async def test_a_lost_connection_is_an_absence_and_then_replaced(small: Database, is_within: bool) -> None:
    async def be_cut_off() -> None:
        async with small.transaction() as conn, small.connection() as other:
            pid = conn.get_server_pid()
            asleep = asyncio.ensure_future(conn.execute("SELECT pg_sleep(20)")) if is_within else None
            await asyncio.sleep(0.1)
            assert await other.fetchval("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.2)
            if asleep is not None:
                await asleep
            await conn.execute("SELECT 1")

    with pytest.raises(DatabaseAway):
        await be_cut_off()
    assert await words(small) == []


async def test_who_asks_together_is_answered_together(small: Database) -> None:
    rounds = []

    async def measure(conn: Connection, asked: list[str]) -> list[int | Exception]:
        rounds.append(len(asked))
        return [await conn.fetchval("SELECT length($1)", word) or ValueError(word) for word in asked]

    answers = await asyncio.gather(
        *(small.gathered(measure, word) for word in ("a", "", "ccc")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [int, ValueError, int]
    assert rounds == [3]


async def test_what_is_gathered_sees_what_was_committed_before(small: Database) -> None:
    """The one who comes while a round is under way is not answered with what that round saw."""
    may_go, has_read = asyncio.Event(), asyncio.Event()

    async def count(conn: Connection, asked: list[int]) -> list[int]:
        found = await conn.fetchval("SELECT count(*) FROM words")
        has_read.set()
        await may_go.wait()
        return [found] * len(asked)

    first = asyncio.create_task(small.gathered(count, 1))
    await has_read.wait()
    async with small.connection() as conn:
        await conn.execute("INSERT INTO words VALUES ('new')")
    second = asyncio.create_task(small.gathered(count, 2))
    await asyncio.sleep(0)
    may_go.set()
    assert (await first, await second) == (0, 1)


async def test_a_database_away_is_told_to_all_who_gathered(pg_url: str) -> None:
    async def ask(conn: Connection, asked: list[int]) -> list[int]:
        pytest.fail("there is no connection")

    async with Database("postgresql://127.0.0.1:1/kin", wait_seconds=5) as away:
        answers = await asyncio.gather(*(away.gathered(ask, number) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseAway] * 3


async def test_a_connection_at_work_does_not_hold_up_the_end(pg_url: str) -> None:
    async with asyncio.timeout(60), Database(pg_url, size=1, wait_seconds=0.3) as db:
        held = db.connection()
        await held.__aenter__()
    with pytest.raises(AssertionError, match="not open"):
        async with db.connection():
            pytest.fail("it is closed")
    await held.__aexit__(None, None, None)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/kin", "postgresql://kinfolk:wrong@{place}"])
async def test_a_server_that_does_not_let_us_in_is_away(pg_url: str, url: str) -> None:
    async with Database(url.format(place=pg_url.partition("@")[2]), wait_seconds=5) as db:
        with facts() as noted, pytest.raises(DatabaseAway):
            async with db.connection():
                pytest.fail("there is none")
        assert "Error" in noted["database"]


def test_a_service_outlives_its_database() -> None:
    with open_directory() as place:
        postgres = EmbeddedPostgres(copy_of_ready(place))
        url = postgres.start()
        try:
            upgrade(url)
            with Service("api", "--pg-url", url) as service, httpx.Client(base_url=service.url, timeout=30) as client:

                def post() -> httpx.Response:
                    return client.post("/imports", json={"citizens": [a_citizen(1)]})

                assert post().status_code == 201
                postgres.stop()
                for _ in range(2):
                    away = post()
                    assert away.status_code == 503
                    assert away.headers["retry-after"] == "5"
                    assert away.json()["type"] == "/problems/database-away"
                assert client.get("/ready").status_code == 503
                assert client.get("/health").status_code == 200
                assert postgres.start() == url
                assert post().status_code == 201
                assert eventually(lambda: client.get("/ready").status_code == 200)
                service.end(signal.SIGTERM)
                service.says("status=503")
                service.says("database=")
                service.never_said("Traceback")
        finally:
            postgres.stop()


async def test_changes_that_come_together_are_one_transaction(small: Database) -> None:
    batches: list[list[str]] = []

    async def keep(conn: Connection, asked: list[str]) -> list[str | Exception]:
        batches.append(asked)
        await conn.execute("INSERT INTO words SELECT unnest($1::text[])", asked)
        if "fatal" in asked:
            raise ZeroDivisionError
        return [KeyError(word) if word == "bad" else word.upper() for word in asked]

    async def ask(*asked: str) -> list[Any]:
        return await asyncio.gather(*(small.gathered_change(keep, word) for word in asked), return_exceptions=True)

    assert await ask("first", "second", "third") == ["FIRST", "SECOND", "THIRD"]
    bad, good = await ask("bad", "good")
    assert (type(bad), good) == (KeyError, "GOOD")
    assert [type(given) for given in await ask("fatal", "lost")] == [ZeroDivisionError] * 2
    assert sorted(chain(*batches)) == ["bad", "fatal", "first", "good", "lost", "second", "third"]
    assert len(batches) < 7, "some came together"
    assert await words(small) == ["bad", "first", "good", "second", "third"]


async def test_who_reads_together_sees_what_was_committed_before(small: Database) -> None:
    async def count(conn: Connection, asked: list[str]) -> list[int]:
        rows = await conn.fetch("SELECT word FROM words")
        return [sum(row[0] == word for row in rows) for word in asked]

    async def add_and_count(word: str) -> int:
        async with small.connection() as conn:
            await conn.execute("INSERT INTO words VALUES ($1)", word)
        return await small.gathered(count, word)

    assert await asyncio.gather(*(add_and_count(str(number)) for number in range(20))) == [1] * 20
    assert await small.gathered(count, "nobody") == 0


async def test_a_connection_that_is_being_ended_is_away(db: Database) -> None:
    """asyncpg says so for a moment, between the server's last word and the end of its stream."""
    with pytest.raises(DatabaseAway):
        async with db.connection():
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
