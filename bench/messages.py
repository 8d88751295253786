"""Messages: how many are taken in a second by one `kinfolk consume`, an insert for each, every one logged.

`python -m bench.messages [ROUNDS]` starts servers of its own and prints JSON. A round fills the queue, starts a
consumer, and looks how long it takes from the first tenth to the last message; CPU time is the consumer's own.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import msgspec
from tests.noting_product import NOTES
from tests.rabbit_client import channel_to, consumer, send
from tests.rabbit_node import RabbitNode

from bench.processes import Memory, cpu_seconds, family
from bench.servers import postgres

MESSAGES = 10_000


class Rate(msgspec.Struct):
    """Medians over all rounds; CPU time in microseconds a message."""

    a_second: float
    consumer_us: float
    postgres_us: float
    rabbitmq_us: float
    idle_megabytes: float
    """The consumer before the first message, both its processes, each shared page counted once."""


async def fill(amqp_url: str, turn: int) -> None:
    async with channel_to(amqp_url) as channel:
        for begin in range(0, MESSAGES, 1_000):
            words = [f"note {turn} {number}" for number in range(begin, begin + 1_000)]
            await asyncio.gather(*(send(channel, each) for each in words))


async def wait_for(conn: asyncpg.Connection, count: int) -> float:
    """The moment when so many are there."""
    while await conn.fetchval("SELECT count(*) FROM notes") < count:
        await asyncio.sleep(0.02)
    return time.perf_counter()


async def measure_round(amqp_url: str, pg_url: str, turn: int, servers: dict[str, int]) -> Rate:
    conn = await asyncpg.connect(pg_url)
    await conn.execute("TRUNCATE notes")
    with consumer(amqp_url, pg_url) as service:  # the lane is declared
        idle_megabytes = Memory(service.process.pid).rest_megabytes
    await fill(amqp_url, turn)
    with consumer(amqp_url, pg_url) as service:
        watched = {"consumer": service.process.pid} | servers
        begun = await wait_for(conn, MESSAGES // 10)
        before = {name: cpu_seconds(family(pid)) for name, pid in watched.items()}
        ended = await wait_for(conn, MESSAGES)
        spent = {name: cpu_seconds(family(pid)) - before[name] for name, pid in watched.items()}
    await conn.close()
    done = MESSAGES - MESSAGES // 10
    us = {name: round(seconds * 1_000_000 / done) for name, seconds in spent.items()}
    return Rate(round(done / (ended - begun)), us["consumer"], us["postgres"], us["rabbitmq"], round(idle_megabytes, 1))


async def measure(rounds: int) -> Rate:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, pg_pid = await asyncio.to_thread(stack.enter_context, postgres(folder / "data"))
        node = await asyncio.to_thread(stack.enter_context, RabbitNode())
        conn = await asyncpg.connect(pg_url)
        await conn.execute(NOTES)
        await conn.close()
        servers = {"postgres": pg_pid, "rabbitmq": node.pid}
        all_of_them = [await measure_round(node.url(), pg_url, turn, servers) for turn in range(rounds)]
    return Rate(*(statistics.median(getattr(one, name) for one in all_of_them) for name in Rate.__struct_fields__))


if __name__ == "__main__":
    rate = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
    print(msgspec.json.format(msgspec.json.encode(rate), indent=2).decode())
