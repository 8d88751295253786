"""Forgetting kept answers everywhere: what was removed must not lie about in the memory of some process, or in Redis.

await forgetting.owe(conn, "imports/7/")  # in the transaction of `conn`: once it is committed, all let go of them
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.statements import FORGETTING_TOLD

CHANNEL = "ch_kinfolk_forget"
END_SECONDS = 0.5


async def owe(conn: Connection, places: str) -> None:
    """Have all processes let go of the answers at places that begin so, when the transaction of `conn` commits."""
    await FORGETTING_TOLD.execute(conn, channel=CHANNEL, places=places)


@asynccontextmanager
async def forgetting(db: Database, cache: Cache) -> AsyncIterator[None]:
    """Meanwhile, this process lets go of what it is told to; where it may not have been told, of all."""
    news: asyncio.Queue[str | None] = asyncio.Queue()
    ear = db.listen(CHANNEL, news.put_nowait, lambda: news.put_nowait(None))
    task = asyncio.create_task(_let_go(cache, news))
    try:
        yield
    finally:
        ear.end()
        while not task.done():  # a cancellation that comes while Redis answers may be lost in its client
            task.cancel()
            await asyncio.wait([task], timeout=END_SECONDS)


async def _let_go(cache: Cache, news: asyncio.Queue[str | None]) -> None:
    is_again = False
    while True:
        places = await news.get()
        if places is None:  # hearing begins: what was told until now was not heard
            await cache.forget(is_everywhere=is_again)
            is_again = True
        else:
            await cache.forget(places)
