"""Contacts over HTTP: entries of 1 KB read, added and listed by 32 connections, one worker, every request logged.

`python -m bench.contacts [ROUNDS]` starts servers of its own and prints JSON. The client is this process, the server
another; CPU time says more than the rate where the machine has other work.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import msgspec

from bench.bars import Bar
from bench.client import Connection, ask_together
from bench.operations import OURS, Comparison, Experiment
from bench.processes import family
from bench.rounds import Contender, Figures, alternate
from bench.servers import kinfolk_api, postgres
from kinfolk.modules.contacts.examples import ANNA

CONNECTIONS = 32
REQUESTS_A_CONNECTION = 40
LISTS_A_CONNECTION = 2
LISTED = 1_000
PATH = "/addresses"
ENTRY_BYTES = 1_024
BARS = {"GET": 6_798, "POST": 1_998, f"list of {LISTED:,}": 300}


class Rate(msgspec.Struct):
    """Medians over all rounds; CPU time in microseconds a request."""

    a_second: int
    cpu_us: dict[str, int]


def entry(of_bytes: int = ENTRY_BYTES) -> bytes:
    """An entry of this size, which has every part."""
    whole = msgspec.structs.replace(ANNA, full_name=ANNA.full_name + "a" * (of_bytes - len(msgspec.json.encode(ANNA))))
    return msgspec.json.encode(whole)


def experiments(url: str) -> Iterator[Experiment]:
    """On a service whose address book is empty; what is added comes last, for the list grows."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(Connection(url))) for _ in range(CONNECTIONS)]
        first = connections[0]
        add, whole = first.request("POST", PATH, entry()), first.request("GET", PATH)
        many = LISTED // REQUESTS_A_CONNECTION
        ask_together(connections[:many], [[add] * REQUESTS_A_CONNECTION] * many, 201)
        places = [f"{PATH}/{key}" for key in msgspec.json.decode(first.ask(whole, 200, is_kept=True).body)]
        assert len(places) == LISTED
        chosen = Random(1)

        def experiment(name: str, requests: list[list[bytes]], status: int) -> Experiment:
            asking = Contender(
                OURS, lambda: ask_together(connections, requests, status), operations=sum(map(len, requests))
            )
            return Experiment(f"contacts, {name}", [asking], [Comparison(OURS, None, Bar("least", BARS[name]))])

        yield experiment(f"list of {LISTED:,}", [[whole] * LISTS_A_CONNECTION] * CONNECTIONS, 200)
        reads = [first.request("GET", place) for place in places]
        yield experiment("GET", [chosen.sample(reads, REQUESTS_A_CONNECTION) for _ in connections], 200)
        yield experiment("POST", [[add] * REQUESTS_A_CONNECTION] * CONNECTIONS, 201)


def measure(rounds: int) -> dict[str, Rate]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, pg_pid = stack.enter_context(postgres(folder / "data"))
        url, api_pid = stack.enter_context(kinfolk_api(pg_url, folder / "api.log"))
        rates = {}
        for each in experiments(url):
            (figures,) = alternate(
                each.contenders, rounds, lambda: {"API": family(api_pid), "database": family(pg_pid)}
            )
            rates[each.name] = _rate(figures)
    return rates


def _rate(one: Figures) -> Rate:
    return Rate(round(1_000 / one.median_ms), {whose: round(spent * 1_000) for whose, spent in one.cpu_ms.items()})


if __name__ == "__main__":
    rates = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print(msgspec.json.format(msgspec.json.encode(rates), indent=2).decode())
