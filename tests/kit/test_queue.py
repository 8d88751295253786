"""PgQueuer's tables, as our migration makes them."""

from typing import Any

import asyncpg
import pytest
from tests.running import kinfolk

from kinfolk.kit.queue import creation, queue, removal


@pytest.fixture(scope="module")
def url(make_database: Any) -> str:
    return make_database("queue")


async def test_they_are_what_the_installed_version_wants(url: str) -> None:
    """Where this fails, PgQueuer was upgraded, and a migration must follow."""
    conn = await asyncpg.connect(url)
    try:
        plan = await queue(conn).plan_upgrade()
        assert (plan.statements, plan.notes) == ((), ())
    finally:
        await conn.close()


async def test_its_log_stays_empty(url: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await queue(conn).enqueue("x", None)
        assert await conn.fetchval("SELECT count(*) FROM pgqueuer") == 1
        assert await conn.fetchval("SELECT count(*) FROM pgqueuer_log") == 0
    finally:
        await conn.close()


def test_each_statement_is_one() -> None:
    assert [statement.split()[0] for statement in removal()].count("DROP") == len(removal())
    assert sum("$$" in statement for statement in creation()) == 1
    assert all(statement.strip().endswith(";") for statement in creation())


def test_the_environment_has_no_say_in_its_names() -> None:
    done = kinfolk("db", "upgrade", "head", "--sql", CHANNEL="x", TRIGGER="y", PGQUEUER_PREFIX="z", QUEUE_TABLE="q")
    assert done.returncode == 0
    assert (
        "CREATE TRIGGER tg_pgqueuer_changed\nAFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgqueuer\n" in done.stdout
    )
