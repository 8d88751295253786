"""PostgreSQL is away for twenty seconds under load: whoever works is held up, and nothing else comes of it."""

import asyncio
from collections import Counter

from tests.conftest import run_sql
from tests.faults.test_messages_faults import Sending
from tests.noting_product import NOTES, note_later
from tests.postgres_places import copy_of_ready, open_directory
from tests.rabbit_client import PARKING, QUEUE, are_noted, are_waiting, channel_to, consumer, noted, until, waiting
from tests.running import Service

from kinfolk.kit.db import Database
from kinfolk.kit.embedded_postgres import EmbeddedPostgres

SECONDS_AWAY = 20
MANY = 3_000
"""As many are sent meanwhile, and more."""
JOBS = 12


async def owe(url: str, words: list[str], seconds: float = 0.0) -> None:
    """Once the database lets us in."""

    async def are_owed() -> bool:
        try:
            async with Database(url, size=1, wait_seconds=1) as db, db.transaction() as conn:
                await note_later.later_each(conn, [{"words": each, "seconds": seconds} for each in words])
        except Exception:
            return False
        return True

    await until(are_owed)


async def are_running(url: str) -> bool:
    async with Database(url, size=1) as db, db.connection() as conn:
        return bool(await conn.fetchval("SELECT count(*) FROM jobs WHERE status = 'running'"))


async def test_a_worker_and_a_consumer_sit_through_it(amqp_url: str) -> None:
    before, after = [f"job {number}" for number in range(JOBS)], ["a job of later"]
    with open_directory() as place, EmbeddedPostgres(copy_of_ready(place, is_migrated=True)) as postgres:
        url = postgres.start()
        await asyncio.to_thread(run_sql, url, NOTES)
        working = Service("work", "--pg-url", url, program="tests.noting_product")
        with working, consumer(amqp_url, url) as consuming:
            async with Sending(amqp_url, a_second=300) as sending:
                await sending.more(300)
                await owe(url, before, seconds=2)
                await until(lambda: are_running(url))
                await asyncio.to_thread(postgres.stop)
                await asyncio.gather(asyncio.sleep(SECONDS_AWAY), sending.more(MANY))
                assert await asyncio.to_thread(postgres.start) == url
                await sending.more(300)
                await owe(url, after)
                sent = [*await sending.end(), *before, *after]
                await are_noted(url, len(sent))
                async with channel_to(amqp_url) as channel:
                    await are_waiting(channel, QUEUE, 0)
                    assert await waiting(channel, PARKING) == 0
                assert await noted(url) == Counter(sent)

                consuming.never_said("outcome=delayed")
                working.says("event=queue_away")
                for service in (working, consuming):
                    service.never_said("event=process_died")
        async with Database(url) as db, db.connection() as conn:
            assert await conn.fetchval("SELECT sum(accidents) FROM jobs") == 0
            assert await conn.fetchval("SELECT max(attempts) FROM jobs") > 1, "none was under way: this shows nothing"
