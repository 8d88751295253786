"""Contacts over HTTP: entries of 1 KB read, added and listed by 32 connections, one worker, every request logged.

`python -m bench.contacts [ROUNDS]` starts servers of its own and prints JSON. The client is this process, the server
another; CPU time says more than the rate where the machine has other work.
"""

import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import msgspec

from bench.client import Connection, ask_together
from bench.processes import family
from bench.rounds import Contender, Figures, alternate
from bench.servers import kinfolk_api, postgres
from kinfolk.modules.contacts.examples import ANNA

CONNECTIONS = 32
REQUESTS_A_CONNECTION = 60
LISTS_A_CONNECTION = 3
LISTED = 1_000
PATH = "/addresses"
ENTRY_BYTES = 1_024


class Rate(msgspec.Struct):
    """Medians over all rounds; CPU time in microseconds a request."""

    a_second: int
    client_us: int
    api_us: int
    postgres_us: int


def entry(of_bytes: int = ENTRY_BYTES) -> bytes:
    """An entry of this size, which has every part."""
    whole = msgspec.structs.replace(ANNA, full_name=ANNA.full_name + "a" * (of_bytes - len(msgspec.json.encode(ANNA))))
    return msgspec.json.encode(whole)


def measure(rounds: int) -> dict[str, Rate]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, pg_pid = stack.enter_context(postgres(folder / "data"))
        url, api_pid = stack.enter_context(kinfolk_api(pg_url, folder / "api.log"))
        connections = [stack.enter_context(closing(Connection(url))) for _ in range(CONNECTIONS)]
        first = connections[0]
        add, whole = first.request("POST", PATH, entry()), first.request("GET", PATH)
        for _ in range(LISTED):
            first.ask(add, 201)
        places = [f"{PATH}/{key}" for key in msgspec.json.decode(first.ask(whole, 200, is_kept=True).body)]
        assert len(places) == LISTED
        chosen = Random(1)
        reads = [
            [first.request("GET", chosen.choice(places)) for _ in range(REQUESTS_A_CONNECTION)] for _ in connections
        ]
        adds = [[add] * REQUESTS_A_CONNECTION] * CONNECTIONS
        lists = [[whole] * LISTS_A_CONNECTION] * CONNECTIONS
        requests = CONNECTIONS * REQUESTS_A_CONNECTION

        def watched() -> dict[str, list[int]]:
            return {"api": family(api_pid), "postgres": family(pg_pid)}

        asked = [
            Contender(
                "list of 1,000",
                lambda: ask_together(connections, lists, 200),
                operations=CONNECTIONS * LISTS_A_CONNECTION,
            ),
            Contender("GET", lambda: ask_together(connections, reads, 200), operations=requests),
        ]
        figures = alternate(asked, rounds, watched)
        adding = Contender("POST", lambda: ask_together(connections, adds, 201), operations=requests)
        figures += alternate([adding], rounds, watched)  # last, for the list grows
    return {one.name: _rate(one) for one in figures}


def _rate(one: Figures) -> Rate:
    spent = {whose: round(milliseconds * 1_000) for whose, milliseconds in one.cpu_ms.items()}
    return Rate(round(1_000 / one.median_ms), spent["client"], spent["api"], spent["postgres"])


if __name__ == "__main__":
    rates = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print(msgspec.json.format(msgspec.json.encode(rates), indent=2).decode())
