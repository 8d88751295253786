"""The audit log over HTTP: what is noted of each deed, in pages, for administrators."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from tests.known_users import ADDRESS, known_client
from tests.modules.citizens.registers import a_family, add, listed, refusal

from kinfolk.kit.db import Database
from kinfolk.modules.jobs.jobs import forget_old

AUDIT = "/api/v1/audit"


@pytest.fixture
async def admin(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with await known_client(db) as client:
        yield client


async def last_number(client: httpx.AsyncClient) -> int:
    """Deeds of these tests come after it."""
    after = 0
    while page := (await client.get(AUDIT, params={"after": after, "limit": 1_000})).json():
        after = page[-1]["number"]
    return after


async def noted(client: httpx.AsyncClient, after: int, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get(AUDIT, params={"after": after, "limit": 1_000} | asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["deed"], entry["import_id"], entry["citizen_id"], entry["facts"]


async def test_each_deed_is_noted_once(admin: httpx.AsyncClient, db: Database) -> None:
    before = await last_number(admin)
    import_id = await add(admin, a_family(_1=[], _2=[], _3=[]))
    place = f"/api/v1/imports/{import_id}"
    await admin.patch(f"{place}/citizens/1", json={"town": "A", "name": "B"})
    await admin.patch(f"{place}/citizens/1", json={"relatives": [2], "street": "C"})
    await listed(admin, import_id)
    await admin.get(f"{place}/citizens/2/export")
    await admin.delete(f"{place}/citizens/2")
    await admin.delete(place)
    async with db.transaction() as conn:
        job_id = await forget_old.later(conn)
    await admin.delete(f"/api/v1/jobs/{job_id}")
    entries = await noted(admin, before)
    assert [told(entry) for entry in entries] == [
        ("import.added", import_id, None, {"citizens": 3}),
        ("citizen.changed", import_id, 1, {"fields": ["name", "town"]}),
        ("citizen.changed", import_id, 1, {"fields": ["street", "relatives"]}),
        ("register.read", import_id, None, None),
        ("citizen.exported", import_id, 2, None),
        ("citizen.removed", import_id, 2, None),
        ("import.removed", import_id, None, None),
        ("job.cancelled", None, None, {"job_id": job_id}),
    ]
    assert {entry["by"] for entry in entries} == {"user:3"}
    assert {entry["address"] for entry in entries} == {ADDRESS}
    assert len({entry["request_id"] for entry in entries}) == len(entries)
    for one, other in pairwise(entries):
        assert other["number"] == one["number"] + 1
        assert other["previous_hash"] == one["hash"]


async def test_what_changes_or_tells_nothing_is_not_noted(admin: httpx.AsyncClient) -> None:
    import_id = await add(admin, a_family(_1=[]))
    place = f"/api/v1/imports/{import_id}"
    seen = (await admin.get(f"{place}/citizens")).headers["etag"]
    before = await last_number(admin)
    stale, ours = {"if-match": '"1"'}, {"if-none-match": seen}
    refused = [
        await admin.get(f"{place}/citizens", headers=ours),
        await admin.get(f"{place}/citizens/birthdays"),
        await admin.get(f"{place}0000/citizens"),
        await admin.patch(f"{place}/citizens/1", json={"name": ""}),
        await admin.patch(f"{place}/citizens/1", json={"name": "A"}, headers=stale),
        await admin.patch(f"{place}/citizens/9", json={"name": "A"}),
        await admin.patch(f"{place}/citizens/1", json={"relatives": [9]}),
        await admin.delete(f"{place}/citizens/1", headers=stale),
        await admin.delete(f"{place}/citizens/9"),
        await admin.get(f"{place}/citizens/9/export"),
        await admin.delete(place, headers=stale),
        await admin.post("/imports", json={"citizens": [{}]}),
        await admin.delete(f"/api/v1/jobs/{2**62}"),
    ]
    assert [answer.status_code for answer in refused] == [
        304,
        200,
        404,
        400,
        412,
        404,
        400,
        412,
        404,
        404,
        412,
        400,
        404,
    ]
    assert await noted(admin, before) == []


async def test_a_retry_adds_nothing_and_is_not_noted(admin: httpx.AsyncClient) -> None:
    before = await last_number(admin)
    for _ in range(2):
        await admin.post("/imports", json={"citizens": []}, headers={"idempotency-key": f"once-{before}"})
    assert [entry["deed"] for entry in await noted(admin, before)] == ["import.added"]


async def test_pages_and_filters(admin: httpx.AsyncClient, db: Database) -> None:
    before = await last_number(admin)
    import_id = await add(admin, a_family(_1=[], _2=[]))
    async with await known_client(db, "analyst") as analyst:
        for citizen_id in (1, 2, 1):
            await analyst.patch(f"/imports/{import_id}/citizens/{citizen_id}", json={"name": "A"})
    every = await noted(admin, before)
    assert [entry["citizen_id"] for entry in every] == [None, 1, 2, 1]
    assert await noted(admin, every[0]["number"], limit=2) == every[1:3]
    assert await noted(admin, before, by="user:2") == every[1:]
    assert await noted(admin, before, deed="import.added") == every[:1]
    assert await noted(admin, 0, import_id=import_id) == every
    assert await noted(admin, 0, import_id=import_id, citizen_id=1, by="user:2") == [every[1], every[3]]
    for wrong in (
        {"limit": 0},
        {"limit": 1_001},
        {"after": -1},
        {"import_id": "x"},
        {"by": "\x00"},
        {"other": 1},
        {"citizen_id": 1},
    ):
        assert refusal(await admin.get(AUDIT, params=wrong)) == (400, "invalid-query")


@pytest.mark.parametrize("role", ["supplier", "analyst"])
async def test_it_is_for_administrators(db: Database, role: str) -> None:
    async with await known_client(db, role) as client:
        assert refusal(await client.get(AUDIT)) == (403, "not-yours")
    async with await known_client(db) as client:
        assert (await client.get(AUDIT)).status_code == 200


async def test_where_nobody_is_asked_nothing_is_noted(client: httpx.AsyncClient) -> None:
    before = await last_number(client)
    import_id = await add(client, a_family(_1=[]))
    assert await listed(client, import_id)
    assert (await client.patch(f"/imports/{import_id}/citizens/1", json={"name": "A"})).status_code == 200
    assert await noted(client, before) == []
