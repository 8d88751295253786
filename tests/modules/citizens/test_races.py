"""Many clients at once: the kinship is that of some serial order, and readers see whole states only.

Every change says in its ETag as which version it stands, so the order is known: it is replayed in a model, one change
after another, and each answer, each reading and the end must be the model's. The same trial fails without the lock.

No circle of waiting is possible: a change waits for the row of its import and holds nothing before it has that, every
other row it locks belongs to that import, and readers lock nothing.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, add, listed

from kinfolk.app import MODULES
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.http.application import application
from kinfolk.kit.statement import Statement
from kinfolk.modules.citizens import correction

CLIENTS = 20
CHANGES = 8
CITIZENS = range(1, 7)

State = dict[int, dict[str, Any]]


def version_of(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.headers["etag"].strip('"').split("-")[0])


def changed(state: State, citizen_id: int, change: dict[str, Any]) -> State:
    """The model: what one change makes of all citizens."""
    after = {number: citizen | {"relatives": set(citizen["relatives"])} for number, citizen in state.items()}
    after[citizen_id] |= change
    if "relatives" in change:
        after[citizen_id]["relatives"] = set(change["relatives"])
        for number in after.keys() - {citizen_id}:
            theirs = after[number]["relatives"] - {citizen_id}
            after[number]["relatives"] = theirs | {citizen_id} if number in change["relatives"] else theirs
    return {number: citizen | {"relatives": sorted(citizen["relatives"])} for number, citizen in after.items()}


def presents(state: State) -> dict[str, list[dict[str, int]]]:
    """All are born in December."""
    buyers = [{"citizen_id": n, "presents": len(c["relatives"])} for n, c in state.items() if c["relatives"]]
    return {str(month): buyers if month == 12 else [] for month in range(1, 13)}


@pytest.fixture
async def two_workers(pg_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two applications that share nothing but the database."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            db = await stack.enter_async_context(Database(pg_url))
            transport = httpx.ASGITransport(application(MODULES, db))  # type: ignore[arg-type]
            client = httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60)
            clients.append(await stack.enter_async_context(client))
        yield clients


async def try_serial(*clients: httpx.AsyncClient, seed: int, ties: float = 0.7) -> None:
    """Tie, untie and rename at random, read meanwhile; fails unless all of it fits one serial order.

    `ties` is the share of changes of relatives.
    """
    chance = random.Random(seed)
    client = clients[0]
    workers = cycle(clients)
    import_id = await add(client, [a_citizen(number) for number in CITIZENS])
    changes: list[tuple[int, int, dict[str, Any], httpx.Response]] = []
    readings: list[httpx.Response] = []

    async def change_at_random() -> None:
        for _ in range(CHANGES):
            citizen_id = chance.choice(CITIZENS)
            change: dict[str, Any] = {"apartment": chance.randrange(1_000)}
            if chance.random() < ties:
                change = {"relatives": chance.sample(CITIZENS, chance.randrange(len(CITIZENS)))}
            answer = await next(workers).patch(f"/imports/{import_id}/citizens/{citizen_id}", json=change)
            changes.append((version_of(answer), citizen_id, change, answer))

    async def read(path: str) -> None:
        while not changing.done():
            readings.append(await client.get(f"/imports/{import_id}/{path}"))

    changing = asyncio.gather(*(change_at_random() for _ in range(CLIENTS)), return_exceptions=True)
    reading_ends = await asyncio.gather(
        *(read(path) for path in ("citizens", "citizens", "citizens/birthdays")), return_exceptions=True
    )
    for failure in filter(None, [*await changing, *reading_ends]):  # only now, when nobody is left at work
        raise failure
    states: list[State] = [{}, {number: a_citizen(number) for number in CITIZENS}]
    for version, citizen_id, change, answer in sorted(changes, key=lambda each: each[0]):
        assert version == len(states), "each change has a version of its own, and none is left out"
        states.append(changed(states[-1], citizen_id, change))
        assert answer.json()["data"] == states[-1][citizen_id]
    assert await listed(client, import_id) == list(states[-1].values())
    assert len({version_of(reading) for reading in readings}) > 5, "too few states were read to show anything"
    for reading in readings:
        state = states[version_of(reading)]
        expected = presents(state) if reading.url.path.endswith("birthdays") else list(state.values())
        assert reading.json()["data"] == expected


def letting_go(statement: Statement, db: Database) -> Any:
    """Numbers and makes a change as the statement does, and lets go of the import's row at once."""

    class LetGo:
        async def fetchrow(self, _conn: Connection, **values: Any) -> Any:
            async with db.connection() as another:
                return await statement.fetchrow(another, **values)

    return LetGo()


@pytest.mark.parametrize("ties", [0.7, 0.1])
@pytest.mark.parametrize("seed", range(3))
async def test_changes_are_as_if_one_came_after_another(client: httpx.AsyncClient, seed: int, ties: float) -> None:
    await try_serial(client, seed=seed, ties=ties)


@pytest.mark.parametrize("ties", [0.7, 0.1])
async def test_changes_over_two_workers_are_too(two_workers: list[httpx.AsyncClient], ties: float) -> None:
    await try_serial(*two_workers, seed=0, ties=ties)


async def test_without_the_lock_they_are_not(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correction, "CORRECTED_CITIZEN", letting_go(correction.CORRECTED_CITIZEN, db))
    with pytest.raises(AssertionError):
        await try_serial(client, seed=0)


async def test_without_a_snapshot_readers_see_halves(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "snapshot", Database.connection)
    with pytest.raises(AssertionError):
        await try_serial(client, seed=0)


async def test_two_who_tie_each_other_at_once(client: httpx.AsyncClient) -> None:
    """Both insert the same tie, and each updates a citizen whom the other's tie refers to."""
    import_id = await add(client, [a_citizen(1), a_citizen(2)])
    for wanted in ([1, 2], []) * 10:
        answers = await asyncio.gather(
            *(client.patch(f"/imports/{import_id}/citizens/{n}", json={"relatives": wanted}) for n in (1, 2))
        )
        assert [answer.json()["data"]["relatives"] for answer in answers] == [wanted, wanted]


async def test_changes_of_other_imports_do_not_wait(client: httpx.AsyncClient, db: Database) -> None:
    held, free = [await add(client, [a_citizen(1)]) for _ in range(2)]
    async with db.transaction() as conn:
        await conn.execute("UPDATE imports SET version = version WHERE import_id = $1", held)
        waiting = asyncio.create_task(client.patch(f"/imports/{held}/citizens/1", json={"name": "New"}))
        answer = await asyncio.wait_for(client.patch(f"/imports/{free}/citizens/1", json={"name": "New"}), 60)
        assert answer.status_code == 200
        assert (await listed(client, held))[0] == a_citizen(1), "nor do readers"
        assert not waiting.done()
    assert (await waiting).status_code == 200
