"""Events: how late 1,000 WebSockets of one worker hear them, what a socket costs, and what telling costs a correction.

`python -m bench.events [--sockets 1000]` starts servers of its own and prints one JSON object.
"""

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.processes import cpu_seconds, family, pss_megabytes
from bench.servers import kinfolk_api, postgres
from kinfolk.kit import events
from kinfolk.kit.db import EVENTS_CHANNEL, Database
from kinfolk.modules.citizens import plain_correction
from kinfolk.modules.citizens.plain_correction import PlainCorrection, correct_citizens

CALM = (50, 10)
"""How many events, and how many a second."""
STORM = (2_000, 1_000)
SECONDS_TO_HEAR = 30
IMPORTS = 8
TOGETHER = 8
TURNS = 300
ROUNDS = 7

_SENT = re.compile(rb'"sent_us":(\d+)')


class Heard(msgspec.Struct):
    """How late the sockets heard events, in milliseconds; the worker's CPU time for an event to a socket."""

    events: int
    a_second: int
    heard: int
    missing: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    worker_us: float


class Sockets(msgspec.Struct):
    """WebSockets on one worker; the memory of all processes of the API."""

    sockets: int
    open_seconds: float
    idle_megabytes: float
    kilobytes_a_socket: float
    calm: Heard
    storm: Heard


class Corrections(msgspec.Struct):
    """Rounds of corrections, each of a few citizens of eight imports, by two processes' worth of connections.

    `silent` is the same statement, which makes its notice and does not send it. Medians of turns that alternate.
    """

    silent_a_second: float
    told_a_second: float
    heard_a_second: float
    """Told, and heard by one connection that listens."""
    told_cost: float
    """How much longer it takes than in silence: 0.02 is two hundredths."""


class Events(msgspec.Struct):
    listening: Sockets
    telling: Corrections


class Ear(asyncio.Protocol):
    """A WebSocket client that notes when what it hears was sent."""

    def __init__(self, request: bytes, late: list[float]) -> None:
        self.is_open = asyncio.get_running_loop().create_future()
        self._request = request
        self._late = late

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.is_open.done():
            assert data.startswith(b"HTTP/1.1 101 "), data[:200]
            self.is_open.set_result(None)
        now = time.perf_counter() * 1e6
        self._late += [(now - int(sent)) / 1_000 for sent in _SENT.findall(data)]


async def listen(pg_url: str, log: Path, count: int) -> Sockets:
    with ExitStack() as stack:
        url, pid = await asyncio.to_thread(stack.enter_context, kinfolk_api(pg_url, log))
        place = urlsplit(url)
        late: list[float] = []
        await _join(place, late)  # what the first one loads is not a socket's
        idle = pss_megabytes(family(pid))
        begun = time.perf_counter()
        for first in range(0, count, 50):
            await asyncio.gather(*(_join(place, late) for _ in range(first, min(first + 50, count))))
        seconds = time.perf_counter() - begun
        used = pss_megabytes(family(pid)) - idle
        async with Database(pg_url) as db:
            calm = await _tell(db, pid, late, count + 1, *CALM)
            storm = await _tell(db, pid, late, count + 1, *STORM)
    return Sockets(count, seconds, idle, used * 1_000 / count, calm, storm)


async def _join(place: Any, late: list[float]) -> None:
    request = (
        f"GET /ws HTTP/1.1\r\nhost: {place.netloc}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    _, ear = await loop.create_connection(lambda: Ear(request, late), place.hostname, place.port)
    await ear.is_open


async def _tell(db: Database, pid: int, late: list[float], sockets: int, count: int, a_second: int) -> Heard:
    late.clear()
    cpu = cpu_seconds(family(pid))
    begun = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + number / a_second - time.perf_counter()))
        async with db.transaction() as conn:
            await events.tell(conn, "citizen.changed", import_id=number, sent_us=int(time.perf_counter() * 1e6))
    deadline = time.perf_counter() + SECONDS_TO_HEAR
    while len(late) < count * sockets and time.perf_counter() < deadline:
        await asyncio.sleep(0.1)
    cpu = cpu_seconds(family(pid)) - cpu
    cuts = statistics.quantiles(late, n=100)
    missing = count * sockets - len(late)
    return Heard(count, a_second, len(late), missing, cuts[49], cuts[98], max(late), cpu / max(1, len(late)) * 1e6)


async def tell(pg_url: str) -> Corrections:
    told = plain_correction.CORRECTED_CITIZENS.text
    silent = told.replace(f"pg_notify('{EVENTS_CHANNEL}', ", "concat(")
    assert silent != told
    rates: dict[str, list[float]] = {"silent": [], "told": [], "heard": []}
    async with Database(pg_url) as db:
        async with db.transaction() as conn:
            import_ids = [await _add(conn) for _ in range(IMPORTS)]
        for _ in range(ROUNDS):
            for form, each in rates.items():
                plain_correction.CORRECTED_CITIZENS.text = silent if form == "silent" else told
                each.append(await _correct(db, import_ids, is_heard=form == "heard"))
    plain_correction.CORRECTED_CITIZENS.text = told
    costs = [quiet / loud - 1 for quiet, loud in zip(rates["silent"], rates["told"], strict=True)]
    return Corrections(*(statistics.median(each) for each in rates.values()), statistics.median(costs))


async def _add(conn: Any) -> int:
    import_id: int = await conn.fetchval("INSERT INTO imports (version) VALUES (1) RETURNING import_id")
    await conn.execute(
        "INSERT INTO citizens SELECT $1, n, 'town', 'street', '1', 1, 'name', '1990-01-01', 'male' "
        "FROM generate_series(1, 1000) n",
        import_id,
    )
    return import_id


async def _correct(db: Database, import_ids: list[int], *, is_heard: bool) -> float:
    """Corrections a second: two workers' rounds at a time, each over half of the imports."""

    async def work(own: list[int]) -> None:
        async with db.connection() as conn:
            for turn in range(TURNS):
                some = [
                    PlainCorrection(import_id, 1 + turn % 1_000, {"name": f"name {turn}"})
                    for import_id in own
                    for _ in range(TOGETHER // len(own))
                ]
                assert None not in await correct_citizens(conn, some)

    heard: list[Any] = []
    ear = events.listen(db, heard.append, lambda: None) if is_heard else None
    if ear:
        await ear.begun.wait()
    begun = time.perf_counter()
    half = len(import_ids) // 2
    await asyncio.gather(work(import_ids[:half]), work(import_ids[half:]))
    seconds = time.perf_counter() - begun
    if ear:
        ear.end()
    return 2 * TURNS * TOGETHER / seconds


async def measure(sockets: int) -> Events:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, _ = await asyncio.to_thread(stack.enter_context, postgres(folder / "data"))
        return Events(await listen(pg_url, folder / "log", sockets), await tell(pg_url))


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--sockets", type=int, default=1_000)
    found = asyncio.run(measure(words.parse_args().sockets))
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
