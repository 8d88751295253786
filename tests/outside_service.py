"""An outside service on a free port of loopback that answers, hangs, lies or breaks off, as the test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from kinfolk.kit import outside
from kinfolk.kit.calls import Reply
from kinfolk.kit.log import facts
from kinfolk.kit.outside import Outside, know
from kinfolk.kit.problems import Problem

Behaviour = Callable[["Exchange"], Awaitable[None]]
GOOD = b'{"hour": 7, "unknown": []}'
LIMIT_BYTES = 100_000


@dataclass
class Exchange:
    """A request that was read whole, and the wire on which it is answered."""

    line: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    async def write(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()


@dataclass
class OutsideService:
    """What it has heard; `script` says how each request is answered, the last step all that follow."""

    url: str
    script: list[Behaviour]
    heard: list[Exchange] = field(default_factory=list)
    connections: int = 0
    written_bytes: int = 0

    @property
    def paths(self) -> list[str]:
        return [exchange.path for exchange in self.heard]


def answer(
    body: bytes = b"{}",
    status: int = 200,
    content_type: str = "application/json",
    *more: str,
    length: int | None = None,
) -> Behaviour:
    """An answer; `length` is what it says of its length, if that is to be a lie."""

    async def step(exchange: Exchange) -> None:
        said = len(body) if length is None else length
        head = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", f"content-length: {said}", *more, "", ""]
        await exchange.write("\r\n".join(head).encode() + body)
        if length is not None:
            exchange.writer.close()

    return step


def redirect(location: str, status: int = 302) -> Behaviour:
    return answer(b"", status, "text/plain", f"location: {location}")


def raw(words: bytes) -> Behaviour:
    """These bytes, and then the connection is closed."""

    async def step(exchange: Exchange) -> None:
        await exchange.write(words)
        exchange.writer.close()

    return step


async def hang(_exchange: Exchange) -> None:
    await asyncio.sleep(60)


async def drip(exchange: Exchange) -> None:
    """Every byte comes soon enough for a limit between two of them."""
    await exchange.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1_000):
        await exchange.write(b" ")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def outside_service(*script: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[OutsideService]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        service.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                exchange = Exchange(head[0], headers, body, writer)
                step = service.script[min(len(service.heard), len(service.script) - 1)]
                service.heard.append(exchange)
                await step(exchange)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    service = OutsideService(f"{'https' if tls else 'http'}://127.0.0.1:{port}", list(script))
    try:
        yield service
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def a_clock(**how: Any) -> Outside:
    return Outside("clock", **({"limit_seconds": 60.0, "limit_bytes": LIMIT_BYTES} | how))


async def ask(
    *script: Behaviour, method: str = "GET", absent: Problem | None = None, **how: Any
) -> tuple[OutsideService, Reply | Exception, dict[str, Any]]:
    """Call a service that answers so; gives what it heard, what came back, and what the log would say."""
    async with outside_service(*script) as service, outside.connections():
        know(clock=service.url)
        with facts() as told:
            try:
                return service, await a_clock(**how).send(method, "now", absent=absent), told
            except Problem as error:
                return service, error, told
