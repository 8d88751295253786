"""Jobs, messages and students a second, and what each role takes up at rest: `python -m bench.flows [ROUNDS]`.

A round of jobs or messages fills the queue and then starts the role, as a process with its log on; the rate is that
from the first tenth to the last. Each inserts a row, jobs in transactions of their own.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, closing
from functools import partial
from pathlib import Path
from random import Random

import aiormq
import asyncpg
import msgspec

from bench.bars import Bar, Row
from bench.client import Connection, ask_together
from bench.processes import Memory, cpu_seconds, family
from bench.product import ROWS, Numbered, add_row, lane
from bench.rabbitmq import rabbitmq
from bench.rounds import Contender, alternate, percentile
from bench.servers import kinfolk_api, postgres, role
from kinfolk.kit.db import Database
from kinfolk.kit.rabbit import Properties, declare, publish

MANY = 6_000
MOST_ROUNDS = 5
CLIENTS = 32
STUDENTS_A_REQUEST = 100
STUDENTS = "/api/v1/students"
BARS = {"jobs": 1_000, "messages": 2_500, "students, GET": 4_275, "students, POST": 2_748}
MOST_MEGABYTES = 70


class Rate(msgspec.Struct):
    """How many a second in each round; the CPU time of the role's processes in µs each, a median."""

    a_second: list[float]
    cpu_us: float


class Flows(msgspec.Struct):
    """All of it, by name."""

    rates: dict[str, Rate]
    idle_megabytes: dict[str, float]

    def rows(self) -> list[Row]:
        """A line of the table for each."""
        rates = [_row(name, rate) for name, rate in self.rates.items()]
        memory = [
            Row(f"memory, idle, {name}", "MB", megabytes, None, "", None, Bar("most", MOST_MEGABYTES))
            for name, megabytes in self.idle_megabytes.items()
        ]
        return [*rates, *memory]


def _row(name: str, rate: Rate) -> Row:
    slow = -percentile([-each for each in rate.a_second], 95)
    return Row(name, "/s", statistics.median(rate.a_second), slow, "", None, Bar("least", BARS[name]))


def measure(folder: Path, rounds: int, many: int = MANY) -> Flows:
    """On servers of its own, which lie in `folder`."""
    with ExitStack() as stack:
        pg_url, pg_pid = stack.enter_context(postgres(folder / "flows"))
        amqp_url, _ = stack.enter_context(rabbitmq(folder / "rabbit"))
        idle = {}
        for name, words in (("work", ()), ("schedule", ()), ("consume", ("--amqp-url", amqp_url))):
            with role("kinfolk", name, folder / "idle.log", "--pg-url", pg_url, *words) as pid:
                idle[name] = Memory(pid).rest_megabytes
        turns = range(min(rounds, MOST_ROUNDS))
        asyncio.run(_execute(pg_url, ROWS))
        working = partial(role, "bench.product", "work", folder / "work.log", "--pg-url", pg_url)
        consuming = partial(
            role, "bench.product", "consume", folder / "consume.log", "--pg-url", pg_url, "--amqp-url", amqp_url
        )
        of_jobs = [asyncio.run(_taken(pg_url, many, _owe(pg_url, many), working)) for _ in turns]
        of_messages = [asyncio.run(_taken(pg_url, many, _send(amqp_url, many), consuming)) for _ in turns]
        students = _students(stack, pg_url, folder, rounds, many, pg_pid)
    return Flows({"jobs": _joined(of_jobs), "messages": _joined(of_messages), **students}, idle)


def _joined(rounds: list[tuple[float, float]]) -> Rate:
    return Rate([rate for rate, _ in rounds], statistics.median(cpu for _, cpu in rounds))


async def _taken(pg_url: str, many: int, fill: Awaitable[None], start: Callable[[], ExitStack]) -> tuple[float, float]:
    """How many a second, and the CPU time of each in µs."""
    await _execute(pg_url, "TRUNCATE bench_rows")
    await fill
    conn = await asyncpg.connect(pg_url)
    with start() as pid:
        begun, first = await _there_are(conn, many // 10)
        cpu = cpu_seconds(family(pid))
        ended, last = await _there_are(conn, many)
        cpu = cpu_seconds(family(pid)) - cpu
    assert await conn.fetchval("SELECT count(DISTINCT number) FROM bench_rows") == many
    await conn.close()
    return (last - first) / (ended - begun), cpu * 1_000_000 / (last - first)


async def _there_are(conn: asyncpg.Connection, count: int) -> tuple[float, int]:
    """The moment when so many are there, and how many are then."""
    while (there := await conn.fetchval("SELECT count(*) FROM bench_rows")) < count:
        await asyncio.sleep(0.01)
    return time.perf_counter(), there


async def _execute(pg_url: str, statement: str) -> None:
    conn = await asyncpg.connect(pg_url)
    await conn.execute(statement)
    await conn.close()


async def _owe(pg_url: str, many: int) -> None:
    async with Database(pg_url, size=2) as db, db.transaction() as conn:
        await add_row.later_each(conn, [{"number": number} for number in range(many)])


async def _send(amqp_url: str, many: int) -> None:
    async with AsyncExitStack() as stack:
        connection = await aiormq.connect(amqp_url)
        stack.push_async_callback(connection.close)
        channel = await connection.channel()
        await declare(channel, lane, lane.delays_seconds)
        bodies = [msgspec.json.encode(Numbered(number)) for number in range(many)]
        batch = time.monotonic_ns()
        for begin in range(0, many, 1_000):
            numbers = range(begin, min(begin + 1_000, many))
            each = [Properties(message_id=f"{batch}-{number}", delivery_mode=2) for number in numbers]
            sending = (
                publish(channel, bodies[number], properties, lane.name)
                for number, properties in zip(numbers, each, strict=True)
            )
            await asyncio.gather(*sending)


def _students(stack: ExitStack, pg_url: str, folder: Path, rounds: int, many: int, pg_pid: int) -> dict[str, Rate]:
    """One worker, 32 connections; the client is this process."""
    url, api_pid = stack.enter_context(kinfolk_api(pg_url, folder / "students.log"))
    connections = [stack.enter_context(closing(Connection(url))) for _ in range(CLIENTS)]
    asyncio.run(_execute(pg_url, f"INSERT INTO students (name) SELECT 'Anna' FROM generate_series(1, {many})"))
    add = connections[0].request("POST", STUDENTS, b'{"name":"Anna Karenina"}')
    chosen = Random(1)
    each = many // STUDENTS_A_REQUEST
    reads = [
        [connections[0].request("GET", f"{STUDENTS}/{chosen.randint(1, many)}") for _ in range(each)]
        for _ in connections
    ]
    requests = CLIENTS * each
    adds = [[add] * each] * CLIENTS
    figures = alternate(
        [
            Contender("students, GET", lambda: ask_together(connections, reads, 200), operations=requests),
            Contender("students, POST", lambda: ask_together(connections, adds, 201), operations=requests),
        ],
        rounds,
        lambda: {"API": family(api_pid), "database": family(pg_pid)},
    )
    return {one.name: Rate([1_000 / each for each in one.runs_ms], one.cpu_ms["API"] * 1_000) for one in figures}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kinfolk-bench-") as name:
        Path(name).chmod(0o755)  # as root, PostgreSQL's user must pass
        found = measure(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else MOST_ROUNDS)
    print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
