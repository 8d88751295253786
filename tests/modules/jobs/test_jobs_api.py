"""Jobs and ticks over HTTP."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.example_jobs import TICKS, count

from kinfolk.kit import schedule
from kinfolk.kit.db import Database
from kinfolk.kit.memory_jobs import jobs_in_memory


async def owed(db: Database, how_many: int = 1) -> list[int]:
    async with db.transaction() as conn:
        return await count.later_each(conn, [{"total": n} for n in range(how_many)])


async def test_a_job_as_it_stands(client: httpx.AsyncClient, db: Database) -> None:
    (job_id,) = await owed(db)
    answer = await client.get(f"/api/v1/jobs/{job_id}")
    assert answer.status_code == 200
    shown = answer.json()
    assert datetime.fromisoformat(shown.pop("created_at")).tzinfo is UTC
    assert shown == {
        "id": job_id,
        "kind": "tests.count",
        "status": "queued",
        "progress": None,
        "attempts": 0,
        "result": None,
        "error": None,
        "started_at": None,
        "ended_at": None,
    }
    done = (
        "UPDATE jobs SET status = 'done', result = '{\"a\": [1]}', progress_done = 3, progress_total = 10, "
        "ended_at = now() WHERE job_id = $1"
    )
    async with db.connection() as conn:
        await conn.execute(done, job_id)
    shown = (await client.get(f"/api/v1/jobs/{job_id}")).json()
    assert (shown["status"], shown["result"], shown["progress"]) == ("done", {"a": [1]}, {"done": 3, "total": 10})


async def test_asking_a_job_to_stop(client: httpx.AsyncClient, db: Database) -> None:
    (job_id,) = await owed(db)
    answer = await client.delete(f"/api/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert (await client.get(f"/api/v1/jobs/{job_id}")).json()["status"] == "cancelled"
    assert (await client.delete(f"/api/v1/jobs/{job_id}")).status_code == 202


@pytest.mark.parametrize("place", ["7000000000", "x", "-1", "01", "99999999999999999999"])
async def test_there_is_no_such_job(client: httpx.AsyncClient, place: str) -> None:
    for answer in (await client.get(f"/api/v1/jobs/{place}"), await client.delete(f"/api/v1/jobs/{place}")):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-job")


async def test_listing_jobs_a_page_at_a_time(client: httpx.AsyncClient, db: Database) -> None:
    ids = await owed(db, 5)

    async def listed(**query: Any) -> list[int]:
        answer = await client.get("/api/v1/jobs", params={"kind": "tests.count", "after": ids[0] - 1} | query)
        assert answer.status_code == 200
        return [job["id"] for job in answer.json()]

    assert await listed() == ids
    assert await listed(limit=2) == ids[:2]
    assert await listed(limit=2, after=ids[1]) == ids[2:4]
    await client.delete(f"/api/v1/jobs/{ids[3]}")
    assert await listed(status="cancelled") == [ids[3]]
    assert await listed(kind="tests.other") == []


@pytest.mark.parametrize(
    ("place", "pointer"),
    [
        ("jobs?limit=0", "limit"),
        ("jobs?limit=1001", "limit"),
        ("jobs?limit=1.5", "limit"),
        ("jobs?after=-1", "after"),
        ("jobs?after=9223372036854775808", "after"),
        ("jobs?status=lost", "status"),
        ("jobs?kind=%00", "kind"),
        ("ticks?name=%00", "name"),
        ("ticks?limit=many", "limit"),
        ("ticks?after=1", "after"),
    ],
)
async def test_a_query_that_cannot_be_understood(client: httpx.AsyncClient, place: str, pointer: str) -> None:
    answer = await client.get(f"/api/v1/{place}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-query")
    assert [bad["pointer"] for bad in answer.json()["errors"]] == [f"/{pointer}"]


async def test_ticks_newest_first(client: httpx.AsyncClient, db: Database) -> None:
    with jobs_in_memory(db):
        async with db.transaction() as conn:
            days = [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2)]
            first, second = [await schedule.owe(conn, TICKS[0], day) for day in days]
    answer = await client.get("/api/v1/ticks", params={"name": "tests.second"})
    assert answer.status_code == 200
    assert answer.json() == [
        {"name": "tests.second", "due_at": "2026-11-02T00:00:00Z", "job_id": second},
        {"name": "tests.second", "due_at": "2026-11-01T00:00:00Z", "job_id": first},
    ]
    assert len((await client.get("/api/v1/ticks", params={"limit": 1})).json()) == 1
    assert (await client.get("/api/v1/ticks", params={"name": "nobody"})).json() == []
