"""Corrections that leave the ties go together: each has its own answer and edition, and none the fate of another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, a_family, add, listed, pointers, refusal

from kinfolk.kit.db import Database
from kinfolk.kit.log import facts
from kinfolk.kit.statement import Statement
from kinfolk.modules.citizens import plain_correction
from kinfolk.modules.citizens.plain_correction import CORRECTED_CITIZENS, PlainCorrection, corrections_in

LOCK = 22_11_2026


def version(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.headers["etag"].strip('"').split("-")[0])


class Altered(Statement):
    """The statement with some of its words replaced."""

    def __init__(self, statement: Statement, *words: tuple[str, str]) -> None:
        vars(self).update(vars(statement))
        for before, after in words:
            assert self.text.count(before) == 1
            self.text = self.text.replace(before, after)


SLOW = ("FOR UPDATE SKIP LOCKED", f"AND pg_advisory_xact_lock_shared({LOCK})::text = '' FOR UPDATE SKIP LOCKED")
"""Between what the statement sees and what it locks there is time for others: as long as a test holds the lock."""
CARELESS = ("free.version = (SELECT", "0 < (SELECT")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_correction, "CORRECTED_CITIZENS", Altered(CORRECTED_CITIZENS, SLOW))


def patching(client: httpx.AsyncClient, import_id: int, citizen_id: int, **change: Any) -> asyncio.Task[httpx.Response]:
    place = f"/imports/{import_id}/citizens/{citizen_id}"
    return asyncio.create_task(client.patch(place, json=change))


async def test_each_has_its_own_answer_and_edition(client: httpx.AsyncClient) -> None:
    first, second = [await add(client, a_family(_1=[2], _2=[1], _3=[])) for _ in range(2)]
    wishes = [(first, 1), (second, 3), (first, 2), (first, 1), (second, 1)]
    answers = await asyncio.gather(*(patching(client, *who, name=f"New {place}") for place, who in enumerate(wishes)))
    assert [version(answer) for answer in answers] == [2, 2, 3, 4, 3], "in the order they came"
    kin = {1: [2], 2: [1], 3: []}
    assert [answer.json()["data"] for answer in answers] == [
        a_citizen(citizen_id, name=f"New {place}", relatives=kin[citizen_id])
        for place, (_, citizen_id) in enumerate(wishes)
    ]
    assert [citizen["name"] for citizen in await listed(client, first)] == ["New 3", "New 2", a_citizen(3)["name"]]
    tag = (await client.get(f"/imports/{first}/citizens")).headers["etag"]
    assert tag == answers[3].headers["etag"], "the last edition is the import's"


async def test_several_of_one_citizen_at_once(client: httpx.AsyncClient) -> None:
    """Of the same columns in one statement, of others one after another; no answer shows what came after it."""
    import_id = await add(client, [a_citizen(1)])
    changes: list[dict[str, Any]] = [
        {"birth_date": "01.01.0001", "town": "A"},
        {"birth_date": "31.12.1999", "town": "B"},
        {"apartment": 5},
        {"birth_date": "29.02.2000", "town": "C"},
        {"gender": "female"},
    ]
    answers = await asyncio.gather(*(patching(client, import_id, 1, **change) for change in changes))
    assert sorted(map(version, answers)) == [2, 3, 4, 5, 6]
    expected = a_citizen(1)
    for answer, change in sorted(zip(answers, changes, strict=True), key=lambda pair: version(pair[0])):
        expected |= change
        assert answer.json()["data"] == expected
    assert await listed(client, import_id) == [expected]


async def test_one_statement_makes_them_all(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, a_family(_1=[], _2=[]))
    rounds = corrections_in(db)
    assert rounds is corrections_in(db)

    async def make(citizen_id: int) -> dict[str, Any]:
        with facts() as learnt:
            assert await rounds.make(PlainCorrection(import_id, citizen_id, {"name": "New"}))
        return learnt

    for learnt in await asyncio.gather(make(1), make(2)):
        assert (learnt["together"], learnt["import_id"]) == (2, import_id)
        assert learnt["db_ms"] > 0


async def test_one_refused_among_others(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[], _2=[], _3=[]))
    first, unknown, nowhere, wrong, tied, last = await asyncio.gather(
        patching(client, import_id, 1, name="New"),
        patching(client, import_id, 9, name="New"),
        patching(client, 999_999_999, 1, name="New"),
        patching(client, import_id, 2, name=""),
        patching(client, import_id, 2, name="New", relatives=[9]),
        patching(client, import_id, 3, name="New"),
    )
    assert refusal(unknown) == (404, "no-such-citizen")
    assert refusal(nowhere) == (404, "no-such-import")
    assert list(pointers(wrong)) == ["/name"]
    assert list(pointers(tied)) == ["/relatives/0"]
    assert {version(first), version(last)} == {2, 3}
    assert await listed(client, import_id) == [a_citizen(1, name="New"), a_citizen(2), a_citizen(3, name="New")]


@asynccontextmanager
async def held_up(db: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The lock of slow statements; what is given waits until one of them waits for it."""

    async def one_waits() -> None:
        async with asyncio.timeout(60):
            while not await waiting_for_locks(db):
                await asyncio.sleep(0.01)

    async with db.transaction() as conn:
        await conn.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        yield one_waits


async def late_tie(client: httpx.AsyncClient, db: Database) -> list[list[int]]:
    """Tie a citizen between what a plain correction sees and what it locks: the relatives of both answers."""
    import_id = await add(client, a_family(_1=[], _2=[]))
    async with held_up(db) as one_waits:
        plain = patching(client, import_id, 1, name="New")
        await one_waits()
        tied = await patching(client, import_id, 2, relatives=[1])
        assert not plain.done()
    answers = [await plain, tied]
    assert sorted(map(version, answers)) == [2, 3]
    answers.sort(key=version)
    return [answer.json()["data"]["relatives"] for answer in answers]


@pytest.mark.usefixtures("slow")
async def test_what_was_changed_since_it_looked_is_looked_at_again(client: httpx.AsyncClient, db: Database) -> None:
    assert await late_tie(client, db) == [[1], [2]]


async def test_without_the_comparison_an_answer_is_stale(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_correction, "CORRECTED_CITIZENS", Altered(CORRECTED_CITIZENS, SLOW, CARELESS))
    assert await late_tie(client, db) == [[1], []]


async def waiting_for_locks(db: Database) -> int:
    async with db.connection() as conn:
        return await conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )


async def test_those_of_a_held_import_wait_together(client: httpx.AsyncClient, db: Database) -> None:
    held, free = [await add(client, [a_citizen(number) for number in range(9)]) for _ in range(2)]
    async with db.transaction() as conn:
        await conn.execute("UPDATE imports SET version = version WHERE import_id = $1", held)
        waiting = [patching(client, held, 0, name="New")]
        while not await waiting_for_locks(db):
            await asyncio.sleep(0.01)
        waiting += [patching(client, held, number, name="New") for number in range(1, 9)]
        for number in range(9):
            assert version(await patching(client, free, number, name="New")) == number + 2
        assert await waiting_for_locks(db) == 1, "one connection, however many wait"
        assert not any(task.done() for task in waiting)
    assert [version(answer) for answer in await asyncio.gather(*waiting)] == list(range(2, 11))


@pytest.mark.usefixtures("slow")
async def test_who_hangs_up_takes_nobody_along(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, [a_citizen(number) for number in range(4)])
    async with held_up(db) as one_waits:
        tasks = [patching(client, import_id, number, name="New") for number in range(3)]
        await one_waits()
        tasks.append(patching(client, import_id, 3, name="New"))
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [version(answer) for answer in answers[1:] if isinstance(answer, httpx.Response)] == [3, 4, 5]


@pytest.mark.usefixtures("slow")
async def test_a_lost_connection_is_told_to_everybody_in_the_round(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, [a_citizen(number) for number in range(4)])
    async with held_up(db) as one_waits:
        tasks = [patching(client, import_id, number, name="New") for number in range(3)]
        await one_waits()
        tasks.append(patching(client, import_id, 3, name="New"))
        async with db.connection() as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        await asyncio.wait(tasks[:3])
    *lost, later = await asyncio.gather(*tasks)
    assert [refusal(answer) for answer in lost] == [(503, "database-away")] * 3
    assert version(later) == 2
    assert await listed(client, import_id) == [*(a_citizen(number) for number in range(3)), a_citizen(3, name="New")]
