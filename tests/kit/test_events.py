"""Events: told by a commit, heard by who listens, and never half of it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy import func, literal_column, select
from tests.listeners import SECONDS, listener

from kinfolk.kit.db import EVENTS_CHANNEL, Database
from kinfolk.kit.events import LONGEST_BYTES, MOST_TOGETHER, tell, tell_each
from kinfolk.kit.sql import sql
from kinfolk.kit.telling import telling, what

LARGEST = 2**63 - 1


async def test_a_commit_tells_and_a_rollback_does_not(db: Database) -> None:
    async with listener(db) as heard:
        async with db.connection() as conn:
            undone = conn.transaction()
            await undone.start()
            await tell(conn, "told.undone", number=1)
            await undone.rollback()
        async with db.transaction() as conn:
            await tell(conn, "told.twice", number=2)
            await tell(conn, "told.once", owner="user:7", number=LARGEST, words=["a"])
            assert heard.all.empty()
        assert await heard.names("told.once") == ["told.twice", "told.once"]
        async with db.connection() as conn:
            await tell(conn, "told.alone")
        notice = await heard.next()
    assert notice is not None
    assert (notice.name, notice.owner, [msgspec.json.decode(each) for each in notice.whats]) == (
        "told.alone",
        None,
        [{}],
    )


async def test_what_is_told_comes_as_it_was_said_also_by_a_statement(db: Database) -> None:
    by_statement = sql(
        select(telling("told.b", func.json_agg(what(n=literal_column("7"))), literal_column("'user:7'")))
    )
    async with listener(db) as heard, db.connection() as conn:
        await tell(conn, "told.a", owner="user:7", n=7)
        await by_statement.execute(conn)
        notices = [await heard.next(), await heard.next()]
    assert [notice.name for notice in notices if notice] == ["told.a", "told.b"]
    for notice in notices:
        assert notice is not None
        assert notice.owner == "user:7"
        assert [msgspec.json.decode(each) for each in notice.whats] == [{"n": 7}]
        assert datetime.fromisoformat(notice.when).utcoffset() == timedelta(0)


async def test_many_go_in_few_notices_each_small_enough(db: Database) -> None:
    many = [{"import_id": LARGEST - number, "citizen_id": LARGEST} for number in range(3 * MOST_TOGETHER + 1)]
    async with listener(db) as heard, db.connection() as conn:
        await tell_each(conn, "told.each", many, owner=f"user:{LARGEST}")
        notices = [await heard.next() for _ in range(4)]
    assert [len(notice.whats) for notice in notices if notice] == [MOST_TOGETHER, MOST_TOGETHER, MOST_TOGETHER, 1]
    assert [msgspec.json.decode(each) for notice in notices if notice for each in notice.whats] == many


async def test_an_event_does_not_carry_what_has_changed(db: Database) -> None:
    async with db.connection() as conn:
        with pytest.raises(AssertionError, match="does not carry it"):
            await tell(conn, "told.long", words="x" * LONGEST_BYTES)


async def test_nonsense_of_others_is_passed_over(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    too_deep = f'{{"name":"x","when":"","whats":{"[" * 3_900}{"]" * 3_900}}}'
    async with listener(db) as heard, db.connection() as conn:
        for nonsense in ("", "[]", "{", '{"name": 1}', too_deep):
            await conn.execute("SELECT pg_notify($1, $2)", EVENTS_CHANNEL, nonsense)
        await tell(conn, "told.after")
        assert await heard.names("told.after") == ["told.after"]
    assert [record.getMessage()[:25] for record in caplog.records] == ["event=unreadable_notice r"] * 5


LISTENING = "FROM pg_stat_activity WHERE query SIMILAR TO '(UN)?LISTEN%' AND datname = current_database()"


async def test_a_lost_connection_is_made_anew_and_its_beginning_is_told(db: Database) -> None:
    async with listener(db) as heard, db.connection() as conn:
        assert await conn.fetch(f"SELECT pg_terminate_backend(pid) {LISTENING}")
        assert await heard.next() is None
        await tell(conn, "told.after")
        assert await heard.names("told.after") == ["told.after"]


async def test_all_who_listen_in_a_process_share_a_connection(db: Database) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    async with listener(db) as heard, db.connection() as conn:
        ear = db.listen("ch_other", said.put_nowait, lambda: said.put_nowait("(begin)"))
        assert await asyncio.wait_for(said.get(), SECONDS) == "(begin)"
        assert await conn.fetchval(f"SELECT count(*) {LISTENING}") == 1
        await conn.execute("SELECT pg_notify('ch_other', 'a')")
        assert await asyncio.wait_for(said.get(), SECONDS) == "a"
        ear.end()
        again = db.listen("ch_other", said.put_nowait, lambda: said.put_nowait("(again)"))
        assert await asyncio.wait_for(said.get(), SECONDS) == "(again)"
        again.end()
        async with asyncio.timeout(SECONDS):
            while await conn.fetchval(f"SELECT count(*) {LISTENING} AND query LIKE 'UNLISTEN%'") == 0:
                await asyncio.sleep(0.01)
        await conn.execute("SELECT pg_notify('ch_other', 'b')")
        await tell(conn, "told.after")
        assert await heard.names("told.after") == ["told.after"]
        assert said.empty()
    async with db.connection() as conn, asyncio.timeout(SECONDS):
        while await conn.fetchval(f"SELECT count(*) {LISTENING}"):
            await asyncio.sleep(0.01)


async def test_a_database_that_is_away_is_tried_again(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apart, tries = Database.apart, 0
    told: list[dict[str, Any]] = []

    def failing(self: Database) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise [ConnectionRefusedError, ZeroDivisionError][tries - 1]
        return apart(self)

    monkeypatch.setattr(Database, "apart", failing)
    monkeypatch.setattr("kinfolk.kit.db.write_line", lambda line, *_: told.append(line))
    async with Database(pg_url) as db, listener(db):
        assert tries == 3
    assert [(line["event"], line["again_seconds"]) for line in told] == [
        ("listening_away", 0.2),
        ("listening_away", 0.4),
    ]


async def test_a_server_that_went_without_a_word_is_noticed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for a sign of life finds that there is none: here, because the connection refuses every statement."""
    monkeypatch.setattr("kinfolk.kit.db.LIFE_SIGN_SECONDS", 0.01)
    execute, signs = asyncpg.Connection.execute, 0

    async def dying(self: Any, query: str, *args: Any, **how: Any) -> Any:
        nonlocal signs
        if query == "SELECT 1":
            signs += 1
            if signs == 3:
                raise TimeoutError
        return await execute(self, query, *args, **how)

    monkeypatch.setattr(asyncpg.Connection, "execute", dying)
    async with listener(db) as heard:
        assert await heard.next() is None
        assert signs >= 3
