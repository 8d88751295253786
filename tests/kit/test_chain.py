"""The chain of the audit log: whatever is done to it afterwards is found, and names the first bad entry."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from tests.conftest import SERVERS
from tests.postgres_places import REPOSITORY

from kinfolk.kit import audit, chain, log
from kinfolk.kit.db import Connection, Database, DatabaseAway

OWNER = "ALTER TABLE audit DISABLE TRIGGER USER"


@pytest.fixture(scope="module", params=SERVERS)
def audited_url(request: pytest.FixtureRequest, make_database: Any) -> str:
    """A database of these tests alone."""
    return make_database("audit", request.param)


@pytest.fixture(scope="module")
async def audited(audited_url: str) -> AsyncIterator[Database]:
    async with Database(audited_url, size=20) as db:
        yield db


@pytest.fixture
async def empty(audited: Database) -> Database:
    async with audited.transaction() as conn:
        await conn.execute(OWNER)
        await conn.execute("TRUNCATE audit")
        await conn.execute("ALTER TABLE audit ENABLE TRIGGER USER")
    return audited


async def note_some(db: Database, count: int) -> None:
    async with db.transaction() as conn:
        for number in range(count):
            await audit.note(conn, "citizen.changed", by="user:1", import_id=1, citizen_id=number, fields=["town"])


async def sealed(db: Database, count: int) -> chain.Anchor:
    """A chain of so many entries; its end."""
    await note_some(db, count)
    await chain.seal_all(db)
    found = await verdict(db)
    assert (found.entries, found.last.number, found.wrong) == (count, count, None)
    return found.last


async def verdict(db: Database, since: chain.Anchor | None = None) -> chain.Verdict:
    async with db.connection() as conn:
        return await chain.verify(conn, since)


async def as_owner(db: Database, *statements: str) -> None:
    """What somebody does who may do everything in the database."""
    async with db.transaction() as conn:
        await conn.execute(OWNER)
        for statement in statements:
            await conn.execute(statement)
        await conn.execute("ALTER TABLE audit ENABLE TRIGGER USER")


async def test_an_entry_says_who_when_and_from_where(empty: Database) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    with log.facts("request-1", "user:7") as facts:
        facts["address"] = "192.0.2.1"
        async with empty.transaction() as conn:
            await audit.note(conn, "import.added", import_id=4, citizens=3, role=None)
    await chain.seal_all(empty)
    async with empty.connection() as conn:
        [noted] = await audit.list_noted(conn)
    assert (noted.number, noted.deed, noted.by, noted.request_id) == (1, "import.added", "user:7", "request-1")
    assert (noted.address, noted.import_id, noted.citizen_id) == ("192.0.2.1", 4, None)
    assert noted.facts == {"citizens": 3}
    assert before < noted.happened_at < datetime.now(UTC) + timedelta(seconds=5)
    assert noted.previous_hash == "00" * 32
    assert noted.hash == (await verdict(empty)).last.hash.hex()


async def test_where_nobody_is_asked_nothing_is_noted(empty: Database) -> None:
    with log.facts("request-1"):
        async with empty.transaction() as conn:
            await audit.note(conn, "import.added", import_id=4)
            await audit.note(conn, "login.failed", by=audit.STRANGER)
    await chain.seal_all(empty)
    async with empty.connection() as conn:
        assert [noted.deed for noted in await audit.list_noted(conn)] == ["login.failed"]


async def test_what_is_rolled_back_leaves_no_gap(empty: Database) -> None:
    await note_some(empty, 2)

    async def fail() -> None:
        async with empty.transaction() as conn:
            await audit.note(conn, "import.added", by="user:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await note_some(empty, 1)
    await chain.seal_all(empty)
    found = await verdict(empty)
    assert (found.entries, found.wrong) == (3, None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET by = 'user:2' WHERE number = 2",
        "UPDATE audit SET hash = previous_hash WHERE number = 2",
        "UPDATE audit SET number = 9 WHERE number = 2",
        "UPDATE audit SET by = 'user:2' WHERE number IS NULL",
        "UPDATE audit SET facts = '{}', number = 9 WHERE number IS NULL",
        "DELETE FROM audit WHERE number = 2",
        "DELETE FROM audit WHERE number IS NULL",
        "TRUNCATE audit",
    ],
)
async def test_the_database_refuses_to_change_it(empty: Database, statement: str) -> None:
    last = await sealed(empty, 3)
    await note_some(empty, 1)
    async with empty.connection() as conn:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
            await conn.execute(statement)
    await chain.seal_all(empty)
    found = await verdict(empty, last)
    assert (found.entries, found.wrong) == (4, None)


BY = "UPDATE audit SET by = 'user:2' WHERE number = {}"
SWAPPED = "UPDATE audit SET number = CASE number WHEN 2 THEN -3 ELSE -2 END WHERE number IN (2, 3)"


@pytest.mark.parametrize(
    ("statements", "wrong"),
    [
        ([BY.format(1)], "entry 1 was changed"),
        ([BY.format(3)], "entry 3 was changed"),
        ([BY.format(5)], "entry 5 was changed"),
        (["UPDATE audit SET happened_at = happened_at + interval '1 us' WHERE number = 3"], "entry 3 was changed"),
        (['UPDATE audit SET facts = \'{"fields":["name"]}\' WHERE number = 3'], "entry 3 was changed"),
        (["UPDATE audit SET previous_hash = hash WHERE number = 1"], "entry 1 does not follow entry 0: "),
        (["UPDATE audit SET hash = previous_hash WHERE number = 3"], "entry 3 was changed"),
        (["DELETE FROM audit WHERE number = 1"], "entry 1 is missing, and no entry says"),
        (["DELETE FROM audit WHERE number = 3"], "entry 3 is missing"),
        (["DELETE FROM audit WHERE number IN (3, 4)"], "entry 3 is missing"),
        ([SWAPPED, "UPDATE audit SET number = -number WHERE number < 0"], "entry 2 does not follow entry 1: "),
        (
            ["DELETE FROM audit WHERE number = 3", "UPDATE audit SET number = number - 1 WHERE number > 3"],
            "entry 3 does not follow entry 2: ",
        ),
    ],
)
async def test_what_an_owner_changes_is_found(empty: Database, statements: list[str], wrong: str) -> None:
    await sealed(empty, 5)
    await as_owner(empty, *statements)
    found = await verdict(empty)
    assert (found.wrong or "").startswith(wrong), found.wrong


async def test_a_tail_that_was_cut_off_is_found_by_what_was_noted(empty: Database) -> None:
    last = await sealed(empty, 5)
    await as_owner(empty, "DELETE FROM audit WHERE number > 3")
    assert (await verdict(empty)).wrong is None
    assert (await verdict(empty, last)).wrong == "entry 4 is missing: the log ends before the entry that was noted"
    await note_some(empty, 4)  # and goes on as if nothing had been
    await chain.seal_all(empty)
    assert (await verdict(empty)).wrong is None
    assert ((await verdict(empty, last)).wrong or "").startswith("entry 5 is not the one that was noted")


async def test_a_chain_made_anew_is_found_by_what_was_noted(empty: Database) -> None:
    last = await sealed(empty, 5)
    again = "UPDATE audit SET number = NULL, previous_hash = NULL, hash = NULL"
    await as_owner(empty, BY.format(2), again)
    await chain.seal_all(empty)
    assert (await verdict(empty)).wrong is None
    assert ((await verdict(empty, last)).wrong or "").startswith("entry 5 is not the one that was noted")


async def test_more_than_a_page_is_followed(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with empty.transaction() as conn:
        await conn.execute(
            "INSERT INTO audit (deed, by) SELECT 'x', 'user:1' FROM generate_series(1, $1)", chain.PAGE + 3
        )
    await chain.seal_all(empty)
    found = await verdict(empty)
    assert (found.entries, found.last.number, found.wrong) == (chain.PAGE + 3, chain.PAGE + 3, None)
    await as_owner(empty, BY.format(chain.PAGE + 2))
    assert (await verdict(empty)).wrong == f"entry {chain.PAGE + 2} was changed"


async def test_old_entries_are_cut_and_the_cut_is_told(empty: Database) -> None:
    await sealed(empty, 3)
    async with empty.connection() as conn:
        moment = await conn.fetchval("SELECT clock_timestamp()")
    await note_some(empty, 2)
    await chain.seal_all(empty)
    middle = (await verdict(empty)).last
    async with empty.transaction() as conn:
        assert await chain.cut(conn, moment) == 3
        assert await chain.cut(conn, moment) == 0
    await chain.seal_all(empty)
    found = await verdict(empty, middle)
    assert (found.entries, found.last.number, found.wrong) == (3, 6, None)
    async with empty.connection() as conn:
        assert [noted.deed for noted in await audit.list_noted(conn)][-1] == chain.CUT
    gone = "entry 2, which was noted, has been cut off since: nothing can be told from it"
    assert (await verdict(empty, chain.Anchor(2, chain.BEGINNING))).wrong == gone
    await as_owner(empty, "DELETE FROM audit WHERE number = 4")
    assert (await verdict(empty)).wrong == "entry 1 is missing, and no entry says that it was cut off"


async def test_all_can_be_cut_and_the_chain_goes_on(empty: Database) -> None:
    last = await sealed(empty, 3)
    async with empty.transaction() as conn:
        assert await chain.cut(conn, datetime.now(UTC) + timedelta(days=1)) == 2
    await chain.seal_all(empty)
    found = await verdict(empty, last)
    assert (found.entries, found.last.number, found.wrong) == (2, 4, None)
    async with empty.transaction() as conn:
        await conn.execute("DELETE FROM audit WHERE FALSE")
        assert await chain.cut(conn, datetime.now(UTC) - timedelta(days=1)) == 0


SEALER = """
import asyncio, sys
from kinfolk.kit import chain
from kinfolk.kit.db import Connection, Database, DatabaseAway

async def main():
    async with Database(sys.argv[1]) as db, db.transaction() as conn:
        while not await chain.seal(conn):
            await asyncio.sleep(0.01)
        print("in the middle", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
WRITERS = 8
NOTES = 120
KILLED = 2
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def write(db: Database, writer: int) -> None:
    """Notes, alone and several in a transaction; every fifth time it is undone."""
    chance = random.Random(writer)
    for number in range(NOTES):
        with suppress(ZeroDivisionError):
            async with db.transaction() as conn:
                for part in range(number % 3 + 1):
                    await audit.note(conn, "x", by=f"user:{writer}", import_id=number, citizen_id=part)
                if number % 5 == 4:
                    raise ZeroDivisionError
        await asyncio.sleep(chance.random() * 0.005)


async def kill_in_the_middle(db: Database, url: str) -> int:
    """How many were noted meanwhile, so that there is something to seal."""
    words = [sys.executable, "-c", SEALER, url]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    sealer = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, env=environment)
    assert sealer.stdout
    said = asyncio.ensure_future(asyncio.wait_for(sealer.stdout.readline(), 60))
    noted = 0
    while not said.done():
        await note_some(db, 1)
        noted += 1
        await asyncio.sleep(0.02)
    sealer.send_signal(signal.SIGKILL)
    await sealer.wait()
    assert said.result() == b"in the middle\n"
    return noted


async def test_many_write_and_sealers_are_killed(
    empty: Database, audited_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(chain, "MOST_AT_ONCE", 50)

    async def kill() -> int:
        return sum([await kill_in_the_middle(empty, audited_url) for _ in range(KILLED)])

    async with chain.sealing(empty), chain.sealing(empty):
        others, *_ = await asyncio.gather(kill(), *(write(empty, writer) for writer in range(WRITERS)))
    await chain.seal_all(empty)
    found = await verdict(empty)
    assert found.wrong is None
    async with empty.connection() as conn:
        noted = await conn.fetch("SELECT by, import_id, citizen_id FROM audit WHERE deed = 'x' ORDER BY number")
    written = [
        (f"user:{writer}", number, part)
        for writer in range(WRITERS)
        for number in range(NOTES)
        for part in range(number % 3 + 1)
        if number % 5 != 4
    ]
    assert sorted(map(tuple, noted)) == sorted(written), "one was lost, or is there twice"
    assert found.entries == len(written) + others


@pytest.mark.parametrize("is_locked", [True, False])
async def test_two_who_seal_at_once_take_turns(
    empty: Database, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    """An entry is committed while one seals another that came after it; without the lock both get one number."""
    if not is_locked:
        monkeypatch.setattr(chain, "SEALING_HELD", chain.ANY_UNSEALED)
    async with empty.transaction() as late:
        await audit.note(late, "x", by="user:1")
        await note_some(empty, 1)
        async with empty.transaction() as first:
            assert await chain.seal(first) == 1
            await late.execute("COMMIT")
            second = asyncio.ensure_future(chain.seal_all(empty))
            async with empty.connection() as conn, asyncio.timeout(60):
                while not await conn.fetchval(WAITING):
                    await asyncio.sleep(0.01)
        await late.execute("BEGIN")
    if is_locked:
        await second
        assert (await verdict(empty))[::2] == (2, None)
    else:
        with pytest.raises(asyncpg.UniqueViolationError):
            await second


async def test_a_sealer_who_is_stopped_holds_nobody_up(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "STUCK", "300ms")
    await note_some(empty, 3)
    async with empty.apart() as stopped:
        await stopped.execute("BEGIN")
        assert await chain.seal(stopped) == 3
        await asyncio.wait_for(chain.seal_all(empty), 60)  # and it says nothing more
    found = await verdict(empty)
    assert (found.entries, found.wrong) == (3, None)


async def test_whoever_has_no_patience_leaves_it_to_who_is_at_it(empty: Database) -> None:
    await note_some(empty, 3)
    async with empty.transaction() as first, empty.transaction() as second:
        assert await chain.seal(first) == 3
        assert await chain.seal(second, is_patient=False) == 0


async def test_sealing_goes_on_after_what_goes_wrong(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(log, "write_line", lambda line, *_: told.append(line))
    monkeypatch.setattr(chain, "PAUSE_SECONDS", 0.01)
    fine, failures = chain.ANY_UNSEALED, [DatabaseAway(), ValueError()]

    class Failing:
        async def fetchval(self, conn: Connection) -> object:
            if failures:
                raise failures.pop(0)
            return await fine.fetchval(conn)

    monkeypatch.setattr(chain, "ANY_UNSEALED", Failing())
    await note_some(empty, 3)
    async with chain.sealing(empty), asyncio.timeout(60):
        while (await verdict(empty)).entries < 3:
            await asyncio.sleep(0.02)
        while told[-1]["event"] != "audit_sealed":
            await asyncio.sleep(0.02)
    assert [line["event"] for line in told] == ["not_sealed", "audit_sealed"]
    assert str(told[-1]["anchor"]) == str((await verdict(empty)).last)
