"""Forgetting kept answers everywhere: what was removed must not lie about in the memory of some process, or in Redis.

await forgetting.owe(conn, "imports/7/")  # in the transaction of `conn`: once it is committed, all let go of them
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kinfolk.kit import log
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import AWAY, NOT_LET_IN, Connection, Database
from kinfolk.kit.statements import FORGETTING_TOLD

CHANNEL = "ch_kinfolk_forget"
LIFE_SIGN_SECONDS = 10.0
PAUSE_SECONDS = 1.0
END_SECONDS = 0.5


async def owe(conn: Connection, places: str) -> None:
    """Have all processes let go of the answers at places that begin so, when the transaction of `conn` commits."""
    await FORGETTING_TOLD.execute(conn, channel=CHANNEL, places=places)


@asynccontextmanager
async def forgetting(db: Database, cache: Cache) -> AsyncIterator[None]:
    """Meanwhile, this process lets go of what it is told to; where it may not have been told, of all."""
    task = asyncio.create_task(_hear_forever(db, cache))
    try:
        yield
    finally:
        while not task.done():  # a cancellation that comes while Redis answers may be lost in its client
            task.cancel()
            await asyncio.wait([task], timeout=END_SECONDS)


async def _hear_forever(db: Database, cache: Cache) -> None:
    is_again = False
    while True:
        try:
            await _hear(db, cache, is_again=is_again)
        except (*NOT_LET_IN, *AWAY) as error:
            line = {"event": "forgetting_away", "reason": type(error).__name__}
            log.write_line(line, logging.WARNING)
        is_again = True
        await asyncio.sleep(PAUSE_SECONDS)


async def _hear(db: Database, cache: Cache, *, is_again: bool) -> None:
    """Until the connection is lost; one that went without a word is noticed by what it does not answer."""
    news: asyncio.Queue[str | None] = asyncio.Queue()

    def put(_conn: Any, _pid: int, _channel: str, payload: Any) -> None:
        news.put_nowait(str(payload))

    async with db.apart() as conn:
        conn.add_termination_listener(lambda _conn: news.put_nowait(None))
        await conn.add_listener(CHANNEL, put)
        await cache.forget(is_everywhere=is_again)  # what was told until now was not heard
        while True:
            try:
                async with asyncio.timeout(LIFE_SIGN_SECONDS):
                    places = await news.get()
            except TimeoutError:
                await conn.execute("SELECT 1")
                continue
            if places is None:
                return
            await cache.forget(places)
