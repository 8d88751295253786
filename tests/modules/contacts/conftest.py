"""Each test that asks for a store runs on each of them; what it asks of is empty."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kinfolk.kit.db import Database
from kinfolk.modules.contacts.stores import choose

STORES = ("sql", "memory", "fs")


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, db: Database, tmp_path: Path) -> AsyncIterator[str]:
    """The store that the application in this process has now, and its name."""
    choose(f"fs:{tmp_path}" if request.param == "fs" else request.param)
    if request.param == "sql":
        async with db.connection() as conn:
            await conn.execute("DELETE FROM contacts")
    yield request.param
    choose("sql")
