"""What is forgotten at night, and what is kept."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinfolk.kit.db import Database
from kinfolk.modules.jobs.jobs import Forgotten, forget_old

DAYS = {"done": 31, "young done": 29, "cancelled": 31, "failed": 364, "old failed": 366, "queued": None}


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("forgetting")


@pytest.fixture(scope="module")
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url) as db:
        yield db


async def test_what_is_old_is_forgotten_and_what_has_failed_kept_longer(db: Database) -> None:
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        for number, (name, days) in enumerate(DAYS.items()):
            ended_at = None if days is None else now - timedelta(days=days)
            await conn.execute(
                "INSERT INTO jobs (job_id, kind, status, arguments, ended_at) VALUES ($1, $2, $3, '{}', $4)",
                number,
                name,
                name.split()[-1],
                ended_at,
            )
        for name, days in (("old", 40), ("old", 35), ("young", 40), ("young", 1)):
            await conn.execute("INSERT INTO ticks VALUES ($1, $2)", name, now - timedelta(days=days))
        assert await forget_old(conn) == Forgotten(jobs=3, ticks=2)
        left = await conn.fetch("SELECT kind FROM jobs ORDER BY job_id")
        ticks = await conn.fetch("SELECT name, due_at FROM ticks ORDER BY name")
    assert [row[0] for row in left] == ["young done", "failed", "queued"]
    assert [(row["name"], (now - row["due_at"]).days) for row in ticks] == [("old", 35), ("young", 1)]
