"""Students over HTTP: how many are read and added in a second by 32 connections, one worker, every request logged.

`python -m bench.students [ROUNDS]` starts servers of its own and prints JSON. The client is this process, the server
another; CPU time says more than the rate where the machine has other work.
"""

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from random import Random

import asyncpg
import msgspec

from bench.client import Connection, ask_together
from bench.processes import family
from bench.rounds import Contender, Figures, alternate
from bench.servers import kinfolk_api, postgres

CONNECTIONS = 32
REQUESTS_A_CONNECTION = 60
THERE = 20_000
PATH = "/api/v1/students"


class Rate(msgspec.Struct):
    """Medians over all rounds; CPU time in microseconds a request."""

    a_second: int
    client_us: int
    api_us: int
    postgres_us: int


def measure(rounds: int) -> dict[str, Rate]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, pg_pid = stack.enter_context(postgres(folder / "data"))
        url, api_pid = stack.enter_context(kinfolk_api(pg_url, folder / "api.log"))
        connections = [Connection(url) for _ in range(CONNECTIONS)]
        add = connections[0].request("POST", PATH, b'{"name":"Anna Karenina"}')
        asyncio.run(_add_those_who_are_there(pg_url))
        chosen = Random(1)
        reads = [
            [connections[0].request("GET", f"{PATH}/{chosen.randint(1, THERE)}") for _ in range(REQUESTS_A_CONNECTION)]
            for _ in connections
        ]
        adds = [[add] * REQUESTS_A_CONNECTION] * CONNECTIONS
        requests = CONNECTIONS * REQUESTS_A_CONNECTION
        figures = alternate(
            [
                Contender("GET", lambda: ask_together(connections, reads, 200), operations=requests),
                Contender("POST", lambda: ask_together(connections, adds, 201), operations=requests),
            ],
            rounds,
            lambda: {"api": family(api_pid), "postgres": family(pg_pid)},
        )
        for connection in connections:
            connection.close()
    return {one.name: _rate(one) for one in figures}


async def _add_those_who_are_there(pg_url: str) -> None:
    conn = await asyncpg.connect(pg_url)
    await conn.execute("INSERT INTO students (name) SELECT 'Anna Karenina' FROM generate_series(1, $1)", THERE)
    await conn.close()


def _rate(one: Figures) -> Rate:
    spent = {whose: round(milliseconds * 1_000) for whose, milliseconds in one.cpu_ms.items()}
    return Rate(round(1_000 / one.median_ms), spent["client"], spent["api"], spent["postgres"])


if __name__ == "__main__":
    rates = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print(msgspec.json.format(msgspec.json.encode(rates), indent=2).decode())
