"""Removing an import: all of it goes, nothing of others does, and nobody at the same time sees half of it."""

import asyncio
import json
import uuid
from collections.abc import Awaitable

import httpx
import pytest
from tests.modules.citizens.registers import a_family, add, listed, refusal, row_counts, stored

from kinfolk.kit.db import Database
from kinfolk.modules.citizens.correction import correct_citizen
from kinfolk.modules.citizens.register import Correction
from kinfolk.modules.citizens.removal import remove_import

FAMILY = a_family(_1=[1, 2], _2=[1, 3], _3=[2], _4=[])
BODY = json.dumps({"citizens": FAMILY}).encode()
ANSWERS = ["citizens", "citizens/birthdays", "towns/stat/percentile/age"]
OURS = "WHERE table_schema = 'public'"
EVERY_TABLE = f"SELECT table_name FROM information_schema.tables {OURS} AND table_type = 'BASE TABLE'"
NAMING_IMPORTS = f"SELECT table_name FROM information_schema.columns {OURS} AND column_name = 'import_id'"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def post(client: httpx.AsyncClient, key: str) -> int:
    answer = await client.post("/imports", content=BODY, headers={"idempotency-key": key})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["data"]["import_id"])


async def counts_of_every_table(db: Database) -> dict[str, int]:
    async with db.snapshot() as conn:
        tables = [row[0] for row in await conn.fetch(EVERY_TABLE)]
        return {table: await conn.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def left_of(db: Database, import_id: int) -> dict[str, int]:
    """Rows that name the import, in whatever table."""
    async with db.snapshot() as conn:
        tables = [row[0] for row in await conn.fetch(NAMING_IMPORTS)]
        assert len(tables) >= 4
        counting = "SELECT count(*) FROM {} WHERE import_id = $1"
        counts = {table: await conn.fetchval(counting.format(table), import_id) for table in tables}
        return {table: count for table, count in counts.items() if count}


@pytest.mark.parametrize("face", ["", "/api/v1"])
async def test_an_import_is_gone_with_all_its_answers(client: httpx.AsyncClient, face: str) -> None:
    import_id = await add(client, FAMILY)
    answer = await client.delete(f"{face}/imports/{import_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ANSWERS:
        assert refusal(await client.get(f"/imports/{import_id}/{path}")) == (404, "no-such-import")
    for asking in (
        client.patch(f"/imports/{import_id}/citizens/1", json={"name": "A"}),
        client.delete(f"{face}/imports/{import_id}"),
    ):
        assert refusal(await asking) == (404, "no-such-import")


@pytest.mark.parametrize("nobody", ["-1", "01", "x", str(2**63), str(2**63 - 1)])
async def test_what_is_no_import_is_not_found(client: httpx.AsyncClient, db: Database, nobody: str) -> None:
    before = await row_counts(db)
    assert refusal(await client.delete(f"/imports/{nobody}")) == (404, "no-such-import")
    assert await row_counts(db) == before


async def test_it_leaves_nothing_behind_in_any_table(client: httpx.AsyncClient, db: Database) -> None:
    other = await add(client, FAMILY)
    before, others = await counts_of_every_table(db), await stored(db, other)
    import_id = await post(client, str(uuid.uuid4()))
    await client.patch(f"/imports/{import_id}/citizens/4", json={"relatives": [1, 2, 3, 4]})
    assert await left_of(db, import_id) == {"imports": 1, "citizens": 4, "ties": 7, "idempotent_imports": 1}
    assert await counts_of_every_table(db) != before
    assert (await client.delete(f"/imports/{import_id}")).status_code == 204
    assert await left_of(db, import_id) == {}
    assert await counts_of_every_table(db) == before
    assert await stored(db, other) == others


async def test_its_key_is_as_good_as_new(client: httpx.AsyncClient) -> None:
    key = str(uuid.uuid4())
    first = await post(client, key)
    assert await post(client, key) == first
    await client.delete(f"/imports/{first}")
    second = await post(client, key)
    assert second > first
    assert await post(client, key) == second
    assert await listed(client, second) == FAMILY
    await client.delete(f"/imports/{second}")
    answer = await client.post("/imports", json={"citizens": []}, headers={"idempotency-key": key})
    assert answer.status_code == 201, "another body, too, since there is no first one any more"


async def test_it_is_removed_only_as_it_was_seen(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, FAMILY)
    stale = (await client.get(f"/imports/{import_id}/citizens")).headers["etag"]
    new = (await client.patch(f"/imports/{import_id}/citizens/1", json={"name": "A"})).headers["etag"]
    before = await stored(db)
    answer = await client.delete(f"/imports/{import_id}", headers={"if-match": stale})
    assert refusal(answer) == (412, "stale-tag")
    assert await stored(db) == before
    assert refusal(await client.delete(f"/imports/{2**62}", headers={"if-match": stale}))[0] == 404
    assert (await client.delete(f"/imports/{import_id}", headers={"if-match": new})).status_code == 204


async def waits(db: Database, work: Awaitable[httpx.Response]) -> "asyncio.Task[httpx.Response]":
    """Begin the work; returns when it waits for somebody else's lock."""
    task = asyncio.ensure_future(work)
    async with db.connection() as conn, asyncio.timeout(60):
        while not await conn.fetchval(WAITING):
            assert not task.done(), "it did not wait"
            await asyncio.sleep(0.01)
    return task


async def test_it_sees_what_it_waited_for(client: httpx.AsyncClient, db: Database) -> None:
    """A change under way adds a tie; the removal waits for it and takes that, too."""
    import_id = await add(client, FAMILY)
    async with db.transaction() as conn:
        await correct_citizen(conn, import_id, 4, Correction({}, [1, 2, 3]), lambda _seen: None)
        removal = await waits(db, client.delete(f"/imports/{import_id}"))
    assert (await removal).status_code == 204
    assert await left_of(db, import_id) == {}


async def test_whoever_waits_for_it_finds_nothing(client: httpx.AsyncClient, db: Database) -> None:
    key = str(uuid.uuid4())
    import_id = await post(client, key)
    async with db.transaction() as conn:
        await remove_import(conn, import_id, lambda _seen: None)
        assert await listed(client, import_id) == FAMILY, "nobody who reads waits"
        change = await waits(db, client.patch(f"/imports/{import_id}/citizens/1", json={"relatives": [4]}))
        retry = asyncio.ensure_future(post(client, key))
        removal = asyncio.ensure_future(client.delete(f"/imports/{import_id}"))
    assert [(await change).status_code, (await removal).status_code] == [404, 404]
    assert await retry > import_id
    assert await listed(client, await retry) == FAMILY
    assert await left_of(db, import_id) == {}


@pytest.mark.parametrize(("who", "status"), [("change", 200), ("retry", 201), ("removal", 204)])
async def test_whoever_waits_for_one_that_fails_finds_it_whole(
    client: httpx.AsyncClient, db: Database, who: str, status: int
) -> None:
    key = str(uuid.uuid4())
    import_id = await post(client, key)
    places = {
        "change": lambda: client.patch(f"/imports/{import_id}/citizens/1", json={"relatives": [4]}),
        "retry": lambda: client.post("/imports", content=BODY, headers={"idempotency-key": key}),
        "removal": lambda: client.delete(f"/imports/{import_id}"),
    }
    async with db.connection() as conn:
        removing = conn.transaction()
        await removing.start()
        await remove_import(conn, import_id, lambda _seen: None)
        waiting = await waits(db, places[who]())
        await removing.rollback()
    answer = await waiting
    assert answer.status_code == status
    assert who != "retry" or answer.json()["data"]["import_id"] == import_id
    assert (await left_of(db, import_id) == {}) is (who == "removal")


class Trial:
    """Clients who change, read, remove and send again one import, all at once."""

    def __init__(self, client: httpx.AsyncClient, import_id: int, key: str) -> None:
        self.client, self.key, self.place = client, key, f"/imports/{import_id}"

    async def change(self, number: int) -> list[int]:
        place = f"{self.place}/citizens/{number % 4 + 1}"
        relatives = [[1, 2, 3, 4], []][number % 2]
        return [(await self.client.patch(place, json={"relatives": relatives})).status_code for _ in range(3)]

    async def read(self) -> list[int]:
        answers = [await self.client.get(f"{self.place}/citizens") for _ in range(8)]
        for answer in answers:
            if answer.status_code == 200:
                data = {citizen["citizen_id"]: citizen["relatives"] for citizen in answer.json()["data"]}
                assert data.keys() == {1, 2, 3, 4}, "half an import was read"
                assert all(one in data[other] for one in data for other in data[one]), "half of its ties were read"
        return [answer.status_code for answer in answers]

    async def remove(self, pause_seconds: float) -> int:
        await asyncio.sleep(pause_seconds)
        return (await self.client.delete(self.place)).status_code


async def try_all_at_once(client: httpx.AsyncClient, db: Database) -> None:
    """Fails unless one removes it, and everybody else saw it whole, before, or not at all, after."""
    key = str(uuid.uuid4())
    import_id = await post(client, key)
    trial = Trial(client, import_id, key)
    watching = asyncio.gather(*map(trial.change, range(8)), *(trial.read() for _ in range(6)), return_exceptions=True)
    removing = asyncio.gather(*(trial.remove(0.004 * number) for number in range(3)))
    retried, removed, watched = await asyncio.gather(post(client, key), removing, watching)
    for statuses in watched:  # only now, when nobody is left at work
        if isinstance(statuses, BaseException):
            raise statuses
        assert set(statuses) <= {200, 404}
        assert statuses == sorted(statuses), "what was gone came back"
    assert sorted(removed) == [204, 404, 404]
    assert await left_of(db, import_id) == {}
    if retried != import_id:
        assert await listed(client, retried) == FAMILY


@pytest.mark.parametrize("round_", range(5))
async def test_all_at_once_see_it_whole_or_not_at_all(client: httpx.AsyncClient, db: Database, round_: int) -> None:
    await try_all_at_once(client, db)


async def test_without_a_transaction_they_see_halves(
    client: httpx.AsyncClient, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def try_often() -> None:
        for _ in range(20):
            await try_all_at_once(client, db)

    monkeypatch.setattr(Database, "transaction", Database.connection)
    try:
        with pytest.raises(AssertionError):
            await try_often()
    finally:
        async with db.connection() as conn:
            for table in ("ties", "citizens", "idempotent_imports"):
                await conn.execute(f"DELETE FROM {table} WHERE import_id NOT IN (SELECT import_id FROM imports)")
