"""Who listens in tests: to what is told by the database, and to the application behind a port of this process."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from litestar.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kinfolk.kit.db import Database
from kinfolk.kit.events import Notice, listen
from kinfolk.kit.http.protocol import Protocol

SECONDS = 60
"""Only a fault takes so long."""


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve it on a free port of loopback, as a worker does; its place as host:port."""
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # so that who does not read is soon noticed
        await server.startup(sockets=[bound])
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            await server.shutdown(sockets=[bound])


@asynccontextmanager
async def listening(place: str, **how: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket; the words `how` are those of `websockets.connect`."""
    async with connect(f"ws://{place}/ws{how.pop('query', '')}", open_timeout=SECONDS, **how) as ears:
        yield ears


def deaf(place: str) -> socket.socket:
    """A connection for one who is going to read slowly: little fits between."""
    host, port = place.split(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    made.connect((host, int(port)))
    return made


async def heard(ears: ClientConnection) -> Any:
    """The next that is said."""
    async with asyncio.timeout(SECONDS):
        return json.loads(await ears.recv())


async def heard_until(ears: ClientConnection, name: str, **what: Any) -> list[dict[str, Any]]:
    """All events up to and with one of this name about this."""
    events = []
    while not events or events[-1]["name"] != name or not events[-1]["what"].items() >= what.items():
        events.append(await heard(ears))
    return events


async def end_of(ears: ClientConnection) -> int:
    """The code that it is closed with, whatever is said before."""
    async with asyncio.timeout(SECONDS):
        try:
            while True:
                await ears.recv()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else int(closed.rcvd.code)


class Heard:
    """What one listener heard; `None` stands for the beginning of its hearing."""

    def __init__(self) -> None:
        self.all: asyncio.Queue[Notice | None] = asyncio.Queue()

    async def next(self) -> Notice | None:
        async with asyncio.timeout(SECONDS):
            return await self.all.get()

    async def names(self, last: str) -> list[str]:
        """Up to and with this one."""
        names: list[str] = []
        while last not in names:
            notice = await self.next()
            names.append("(begin)" if notice is None else notice.name)
        return names


@asynccontextmanager
async def listener(db: Database) -> AsyncIterator[Heard]:
    heard = Heard()
    ear = listen(db, heard.all.put_nowait, lambda: heard.all.put_nowait(None))
    try:
        assert await heard.next() is None
        assert ear.begun.is_set()
        yield heard
    finally:
        ear.end()
        assert not ear.begun.is_set()
