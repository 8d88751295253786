"""What our layers cost a request over the bare framework, in microseconds of CPU time, with logging on.

`python -m bench.layers measure ROUNDS` measures in this process with a client that costs nothing and prints JSON;
`python -m bench.layers bare` and `… whole` serve the two over HTTP. All log to standard error: let it be a file.
"""

import gc
import logging
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop

from kinfolk.app import MODULES
from kinfolk.kit import log, metrics
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Database
from kinfolk.kit.http import Answer, Request, get
from kinfolk.kit.http.application import framework
from kinfolk.kit.http.front import Front
from kinfolk.kit.http.server import server
from kinfolk.kit.module import Module
from kinfolk.kit.settings import LogSettings

PATH = "/api/v1/imports/1/probe"
REQUESTS_A_BATCH = 400
WARM_UP_ROUNDS = 2

_HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"connection", b"keep-alive"),
]


class Probe(msgspec.Struct):
    """Hardly anything."""

    import_id: int


@get("/imports/{import_id}/probe", gives={200: Probe}, given=Probe(1))
async def probe(_request: Request) -> Answer:
    """Answer at once: a route that is logged as any other, and asks nobody."""
    return Answer.of(Probe(1))


def applications(db: Database) -> dict[str, Any]:
    """The framework alone, then with our layer around it, as the product has it; in `quiet` without the log."""
    bare = framework([*MODULES, Module(name="bench", description="", routes=[probe])], db)
    counting = metrics.http_metrics()
    return {
        "bare": bare,
        "quiet": Front(bare, counting, is_local=True),
        "whole": Front(bare, counting, is_local=True),
    }


def nowhere() -> Database:
    """A database that nobody asks."""
    return Database("postgresql://127.0.0.1:1/none")


async def batch(app: Any) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        return

    for _ in range(REQUESTS_A_BATCH):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 40_000),
            "scheme": "http",
            "root_path": "",
            "method": "GET",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": list(_HEADERS),
            "state": {},
        }
        await app(scope, receive, send)


def microseconds(run: Callable[[], object]) -> float:
    """Of CPU time a request in a batch, all threads, the writing of the log included."""
    begun = time.process_time()
    run()
    written = -1
    while written != (size := os.fstat(2).st_size):  # the writing thread sleeps less than this between two bursts
        written = size
        time.sleep(0.05)
    return (time.process_time() - begun) / REQUESTS_A_BATCH * 1_000_000


def compared(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each form, and of what the layers add to a round.

    Added is judged round by round: this machine is twice as fast in one second as in another, and two runs next to each
    other mostly have it in the same state.
    """
    added = [whole - bare for bare, whole in zip(taken["bare"], taken["whole"], strict=True)]
    return {name: statistics.median(rounds) for name, rounds in {**taken, "added": added}.items()}


def measure(rounds: int) -> dict[str, float]:
    """See `compared`, in alternating rounds."""
    lines = _start_log()
    apps = applications(nowhere())
    gc.collect()
    gc.freeze()
    loop = uvloop.new_event_loop()
    taken: dict[str, list[float]] = {name: [] for name in apps}
    try:
        for number in range(rounds + WARM_UP_ROUNDS):
            for name, app in apps.items():
                logging.getLogger().setLevel(logging.ERROR if name == "quiet" else logging.INFO)
                one = microseconds(lambda app=app: loop.run_until_complete(batch(app)))  # type: ignore[misc]
                if number >= WARM_UP_ROUNDS:
                    taken[name].append(one)
    finally:
        loop.close()
        lines.stop()
    return compared(taken)


def serve_form(form: str) -> None:
    lines = _start_log()
    db = nowhere()
    app = applications(db)[form]
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    gc.collect()
    gc.freeze()
    try:
        server(app, db, bound, 1.0, Cache())(
            lambda: print(f"ready port={port} pid={os.getpid()}", file=sys.stderr, flush=True)
        )
    finally:
        lines.stop()


def _start_log() -> log.Log:
    lines = log.start(LogSettings(log_level="info", log_format="logfmt"))
    assert lines is not None
    return lines


def main() -> None:
    with TemporaryDirectory(prefix="kinfolk-bench-metrics-") as folder:
        os.environ[metrics.FOLDER] = folder  # counters are shared between processes, as in the product
        if sys.argv[1] == "measure":
            print(msgspec.json.encode(measure(int(sys.argv[2]))).decode())
        else:
            serve_form(sys.argv[1])


if __name__ == "__main__":
    main()
