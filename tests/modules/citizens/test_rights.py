"""A citizen's rights: all that is held is told, and what is removed is gone with every tie and every answer."""

import asyncio
import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import httpx
import pytest
from tests.known_users import ADDRESS, known_client
from tests.modules.citizens.registers import a_citizen, a_family, add, listed, refusal, stored
from tests.modules.citizens.test_races import State, changed, letting_go, two_workers, version_of  # noqa: F401

from kinfolk.kit.db import EVENTS_CHANNEL, Database
from kinfolk.modules.citizens import rights

HOME = "/api/v1"
FAMILY = a_family(_1=[1, 2, 3], _2=[1, 3], _3=[1, 2], _4=[])


def place(import_id: int, citizen_id: int | str) -> str:
    return f"{HOME}/imports/{import_id}/citizens/{citizen_id}"


@pytest.fixture
async def admin(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with await known_client(db) as client:
        yield client


async def test_all_that_is_held_is_told(admin: httpx.AsyncClient) -> None:
    body, key = json.dumps({"citizens": FAMILY}).encode(), str(uuid.uuid4())
    added = await admin.post("/imports", content=body, headers={"idempotency-key": key})
    import_id = added.json()["data"]["import_id"]
    await admin.patch(place(import_id, 2), json={"town": "Керчь"})
    await admin.patch(place(import_id, 3), json={"town": "Керчь"})
    await listed(admin, import_id)
    answer = await admin.get(f"{place(import_id, 2)}/export", headers={"x-request-id": "asked-here"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="citizen-{import_id}-2.json"'
    assert answer.headers["cache-control"] == "no-store"
    held = answer.json()["data"]
    assert held["citizen"] == a_citizen(2, town="Керчь", relatives=[1, 3])
    assert held["ties"] == [{"low_id": 1, "high_id": 2}, {"low_id": 2, "high_id": 3}]
    retry = held["import"].pop("retry")
    assert retry.pop("created_at") == held["import"].pop("created_at")
    assert held["import"] == {"import_id": import_id, "version": 3, "owner_id": 3}
    assert retry["key"].endswith(key)
    assert retry["body_sha256"] == hashlib.sha256(body).hexdigest()
    deeds = [(noted["deed"], noted["citizen_id"]) for noted in held["audit"]]
    told = [("import.added", None), ("citizen.changed", 2), ("register.read", None), ("citizen.exported", 2)]
    assert deeds == told, "and nothing that was done to another citizen"
    last = held["audit"][-1]
    assert (last["by"], last["request_id"], last["address"]) == ("user:3", "asked-here", ADDRESS)


async def test_who_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    import_id = await add(client, FAMILY)
    for nobody in ("5", "-1", "01", "x", str(2**63)):
        for asking in (client.delete(place(import_id, nobody)), client.get(f"{place(import_id, nobody)}/export")):
            assert refusal(await asking) == (404, "no-such-citizen"), nobody
    for asking in (client.delete(place(2**62, 1)), client.get(f"{place(2**62, 1)}/export")):
        assert refusal(await asking) == (404, "no-such-import")
    assert await listed(client, import_id) == FAMILY


async def test_at_the_root_there_is_no_such_route(client: httpx.AsyncClient) -> None:
    """Five handlers were published there, and clients know no others."""
    import_id = await add(client, FAMILY)
    path = place(import_id, 1).removeprefix(HOME)
    assert refusal(await client.delete(path)) == (405, "wrong-method")
    assert refusal(await client.get(f"{path}/export"))[0] == 404
    assert (await client.get(f"{HOME}{path}/export")).status_code == 200


async def test_a_citizen_goes_with_every_tie(client: httpx.AsyncClient, db: Database) -> None:
    import_id, other = await add(client, FAMILY), await add(client, FAMILY)
    others = await stored(db, other)
    before = (await client.get(f"/imports/{import_id}/citizens")).headers["etag"]
    answer = await client.delete(place(import_id, 1))
    assert (answer.status_code, answer.content) == (204, b"")
    assert await listed(client, import_id) == a_family(_2=[3], _3=[2], _4=[])
    after = await client.get(f"/imports/{import_id}/citizens", headers={"if-none-match": before})
    assert (after.status_code, version_of(after)) == (200, 2)
    assert len((await stored(db, import_id))["ties"]) == 1
    assert await stored(db, other) == others
    for again in (client.delete(place(import_id, 1)), client.patch(place(import_id, 1), json={"name": "A"})):
        assert refusal(await again) == (404, "no-such-citizen")
    assert version_of(await client.get(f"/imports/{import_id}/citizens")) == 2, "a refusal changes nothing"
    answer = await client.patch(place(import_id, 4), json={"relatives": [1, 2]})
    assert answer.json()["errors"][0]["pointer"] == "/relatives/0"
    for citizen_id in (2, 3, 4):
        assert (await client.delete(place(import_id, citizen_id))).status_code == 204
    assert await listed(client, import_id) == []
    assert (await client.delete(f"{HOME}/imports/{import_id}")).status_code == 204


async def test_only_as_it_was_seen(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, FAMILY)
    stale = (await client.get(f"/imports/{import_id}/citizens")).headers["etag"]
    new = (await client.patch(place(import_id, 4), json={"name": "A"})).headers["etag"]
    before = await stored(db)
    answer = await client.delete(place(import_id, 1), headers={"if-match": stale})
    assert refusal(answer) == (412, "stale-tag")
    assert await stored(db) == before
    assert (await client.delete(place(import_id, 1), headers={"if-match": new})).status_code == 204


async def test_a_retry_with_its_key_does_not_bring_a_citizen_back(client: httpx.AsyncClient, db: Database) -> None:
    key = {"idempotency-key": str(uuid.uuid4())}
    body = json.dumps({"citizens": FAMILY}).encode()
    first = (await client.post("/imports", content=body, headers=key)).json()
    import_id = first["data"]["import_id"]
    await client.delete(place(import_id, 1))
    again = await client.post("/imports", content=body, headers=key)
    assert (again.status_code, again.json()) == (201, first)
    assert [citizen["citizen_id"] for citizen in await listed(client, import_id)] == [2, 3, 4]
    assert [row[1] for row in (await stored(db))["idempotent_imports"] if row[2] == import_id] == [b""]


async def test_a_removal_waits_for_a_change_and_takes_its_ties(client: httpx.AsyncClient, db: Database) -> None:
    """A tie that came while the removal waited for the row of the import goes, too, and both who had it are told."""
    import_id = await add(client, FAMILY)
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with db.apart() as ear:
        await ear.add_listener(EVENTS_CHANNEL, lambda *notice: told.put_nowait(json.loads(str(notice[-1]))))
        await remove_while_a_tie_comes(client, db, import_id)
        event: dict[str, Any] = {"name": None}
        async with asyncio.timeout(60):
            while event["name"] != "citizen.changed" or event["whats"][0]["import_id"] != import_id:
                event = await told.get()
    assert event["whats"] == [{"import_id": import_id, "citizen_id": 1}]
    assert await listed(client, import_id) == FAMILY[:3]


async def remove_while_a_tie_comes(client: httpx.AsyncClient, db: Database, import_id: int) -> None:
    """Somebody else ties 1 and 4, who is being removed."""
    async with db.transaction() as conn:
        await conn.execute("UPDATE imports SET version = version + 1 WHERE import_id = $1", import_id)
        removal = asyncio.ensure_future(client.delete(place(import_id, 4)))
        async with asyncio.timeout(60):
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while not await conn.fetchval(waiting):
                await conn.execute("SELECT pg_stat_clear_snapshot()")
                await asyncio.sleep(0.01)
        await conn.execute("INSERT INTO ties VALUES ($1, 1, 4)", import_id)
    assert (await removal).status_code == 204


CLIENTS = 20
CHANGES = 6
CITIZENS = range(1, 9)


def gone(state: State, citizen_id: int) -> State:
    """The model: what is left of all when one is removed."""
    return {
        number: citizen | {"relatives": [other for other in citizen["relatives"] if other != citizen_id]}
        for number, citizen in state.items()
        if number != citizen_id
    }


async def try_serial(*clients: httpx.AsyncClient, seed: int) -> None:
    """Tie, rename and remove at random; fails unless all of it fits one serial order.

    A removal answers with no version, so each takes the one that no change has; two that are next to each other may
    have come in either order.
    """
    chance = random.Random(seed)
    workers = cycle(clients)
    import_id = await add(clients[0], [a_citizen(number) for number in CITIZENS])
    changes: dict[int, tuple[int, dict[str, Any], httpx.Response]] = {}
    removed: list[int] = []
    refused: list[tuple[int, int]] = []

    async def change_at_random() -> None:
        for _ in range(CHANGES):
            citizen_id = chance.choice(CITIZENS)
            if chance.random() < 0.1:
                answer = await next(workers).delete(place(import_id, citizen_id))
                assert answer.status_code in (204, 404), answer.text
                removed.extend([citizen_id] if answer.status_code == 204 else [])
                continue
            change: dict[str, Any] = {"apartment": chance.randrange(1_000)}
            if chance.random() < 0.6:
                change = {"relatives": chance.sample(CITIZENS, chance.randrange(4))}
            answer = await next(workers).patch(place(import_id, citizen_id), json=change)
            if answer.status_code == 200:
                changes[version_of(answer)] = citizen_id, change, answer
            else:
                refused.append((answer.status_code, citizen_id))

    ends = await asyncio.gather(*(change_at_random() for _ in range(CLIENTS)), return_exceptions=True)
    for failure in filter(None, ends):  # only now, when nobody is left at work
        raise failure
    assert len(set(removed)) == len(removed) > 0, "one is removed once"
    reading = await clients[0].get(f"/imports/{import_id}/citizens")
    last = version_of(reading)
    free = [version for version in range(2, last + 1) if version not in changes]
    assert len(free) == len(removed), "each change has a version of its own, and none is left out"
    # Whom somebody changes last, he is removed after that: there is one order of removals that fits, or none.
    until = {
        citizen_id: max([v for v, (n, _, _) in changes.items() if n == citizen_id], default=1) for citizen_id in removed
    }
    assert fits({number: a_citizen(number) for number in CITIZENS}, 2, last, changes, until, reading.json()["data"])
    assert {status for status, _ in refused} <= {400, 404}


def fits(
    state: State,
    version: int,
    last: int,
    changes: dict[int, tuple[int, dict[str, Any], httpx.Response]],
    left: dict[int, int],
    end: list[dict[str, Any]],
) -> bool:
    """Whether there is an order of the removals in which every answer, and the end, is the model's."""
    if version > last:
        return not left and list(state.values()) == end
    if version in changes:
        citizen_id, change, answer = changes[version]
        if citizen_id not in state or not set(change.get("relatives", [])) <= state.keys():
            return False
        after = changed(state, citizen_id, change)
        told = answer.json()["data"] == after[citizen_id]
        return told and fits(after, version + 1, last, changes, left, end)
    return any(
        until < version
        and fits(gone(state, one), version + 1, last, changes, {n: v for n, v in left.items() if n != one}, end)
        for one, until in left.items()
    )


@pytest.mark.parametrize("seed", range(3))
async def test_removals_and_changes_are_as_if_one_came_after_another(
    two_workers: list[httpx.AsyncClient],  # noqa: F811
    seed: int,
) -> None:
    await try_serial(*two_workers, seed=seed)


async def test_without_the_lock_they_are_not(
    two_workers: list[httpx.AsyncClient],  # noqa: F811
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rights, "TAKEN_IMPORT", letting_go(rights.TAKEN_IMPORT, db))

    async def try_often() -> None:
        for seed in range(20):
            await try_serial(*two_workers, seed=seed)

    with pytest.raises((AssertionError, RecursionError)):
        await try_often()
