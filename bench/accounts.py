"""What accounts cost: a GET that is answered 304 with and without a token, and everybody's p95 under a flood of logins.

`python -m bench.accounts [ROUNDS]` starts servers of its own and prints JSON. All that is compared alternates in one
run. The flood comes from another process, each attempt for another name from another address, so that no limit spares
the service the hashing.
"""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import msgspec

from bench.client import Connection, ask_together
from bench.processes import family
from bench.rounds import Contender, Figures, alternate
from bench.servers import beside, kinfolk_api, postgres

CLIENTS = 8
REQUESTS_A_CLIENT = 200
FLOODERS = 4
WINDOW_SECONDS = 2.0
PROBE_PAUSE_SECONDS = 0.004
IMPORT = "/api/v1/imports"
CITIZEN = {
    "citizen_id": 1,
    "town": "Leeds",
    "street": "Mill Lane",
    "building": "3",
    "apartment": 1,
    "name": "Ada Hill",
    "birth_date": "10.12.1985",
    "gender": "female",
    "relatives": [],
}
PASSWORD = "a password for the bench"


class Cost(msgspec.Struct):
    """Medians over all rounds."""

    unchanged_a_second: dict[str, int]
    unchanged_cpu_us: dict[str, int]
    p95_ms: dict[str, float]
    p95_times: float
    logins_a_second: float


def measure(rounds: int) -> Cost:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kinfolk-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        pg_url, _ = stack.enter_context(postgres(folder / "data"))
        _add_admin(pg_url, folder)
        asking = stack.enter_context(kinfolk_api(pg_url, folder / "asking.log", "--auth", "required"))
        open_ = stack.enter_context(kinfolk_api(pg_url, folder / "open.log"))
        token = _token(asking[0])
        unchanged = _unchanged(rounds, {"token": (*asking, token), "nobody asked": (*open_, None)})
        return _with_flood(rounds, asking[0], token, unchanged)


def _add_admin(pg_url: str, folder: Path) -> None:
    secret = folder / "password"
    secret.write_text(PASSWORD)
    command = [sys.executable, "-m", "kinfolk", "user", "add", "bench", "--role", "admin", "--pg-url", pg_url]
    subprocess.run([*command, "--password-file", secret], check=True, capture_output=True)


def _token(url: str) -> str:
    connection = Connection(url)
    body = msgspec.json.encode({"username": "bench", "password": PASSWORD})
    answer = connection.ask(connection.request("POST", "/api/v1/user/auth", body), 200, is_kept=True)
    connection.close()
    return str(msgspec.json.decode(answer.body)["data"]["access_token"])


def _unchanged(rounds: int, servers: dict[str, tuple[str, int, str | None]]) -> list[Figures]:
    """304 by eight clients; the CPU time is that of the server."""
    contenders = []
    for name, (url, _pid, token) in servers.items():
        connections = [Connection(url) for _ in range(CLIENTS)]
        shown = {} if token is None else {"authorization": f"Bearer {token}"}
        one = connections[0]
        register = msgspec.json.encode({"citizens": [CITIZEN]})
        added = one.ask(one.request("POST", IMPORT, register, **shown), 201, is_kept=True)
        path = f"{IMPORT}/{msgspec.json.decode(added.body)['data']['import_id']}/citizens"
        tag = one.ask(one.request("GET", path, **shown), 200).tag or ""
        asked = [[one.request("GET", path, if_none_match=tag, **shown)] * REQUESTS_A_CLIENT] * CLIENTS

        def ask(connections: list[Connection] = connections, asked: list[list[bytes]] = asked) -> None:
            ask_together(connections, asked, 304)

        contenders.append(Contender(name, ask, operations=CLIENTS * REQUESTS_A_CLIENT))
    return alternate(contenders, rounds, lambda: {name: family(pid) for name, (_url, pid, _) in servers.items()})


def _with_flood(rounds: int, url: str, token: str, unchanged: list[Figures]) -> Cost:
    probe = Connection(url)
    asked = probe.request("GET", "/api/v1/students?limit=1", authorization=f"Bearer {token}")
    p95: dict[str, list[float]] = {"quiet": [], "flood": []}
    logins = []
    for _ in range(rounds):
        p95["quiet"].append(_p95(probe, asked))
        with beside([sys.executable, "-m", "bench.accounts", "flood", url]) as flood:
            assert flood.stdout is not None
            flood.stdout.readline()  # it has begun
            p95["flood"].append(_p95(probe, asked))
            flood.terminate()
            logins.append(int(flood.stdout.readline()) / WINDOW_SECONDS)
        time.sleep(0.5)  # what was owed is done
    probe.close()
    return Cost(
        {one.name: round(1_000 / one.median_ms) for one in unchanged},
        {one.name: round(one.cpu_ms[one.name] * 1_000) for one in unchanged},
        {name: round(median(found), 3) for name, found in p95.items()},
        round(median(flood / quiet for quiet, flood in zip(*p95.values(), strict=True)), 3),
        round(median(logins), 1),
    )


def _p95(probe: Connection, asked: bytes) -> float:
    taken = []
    end = time.perf_counter() + WINDOW_SECONDS
    while (begun := time.perf_counter()) < end:
        probe.ask(asked, 200)
        taken.append((time.perf_counter() - begun) * 1_000)
        time.sleep(PROBE_PAUSE_SECONDS)
    return quantiles(taken, n=20)[-1]


def flood(url: str) -> None:
    """Log in as nobody, from everywhere, until SIGTERM; prints how many attempts were looked at."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    numbers, looked_at = count(), count()

    def attempt() -> None:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port)
        while not ended.is_set():
            number = next(numbers)
            body = f'{{"username":"nobody-{number}","password":"guessed"}}'
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            connection.request("POST", "/api/v1/user/auth", body, {"x-forwarded-for": address})
            answer = connection.getresponse()
            answer.read()
            if answer.status == HTTPStatus.UNAUTHORIZED:
                next(looked_at)

    threads = [threading.Thread(target=attempt) for _ in range(FLOODERS)]
    for thread in threads:
        thread.start()
    print("begun", flush=True)
    ended.wait()
    for thread in threads:
        thread.join()
    print(next(looked_at), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        flood(sys.argv[2])
    else:
        cost = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
        print(msgspec.json.format(msgspec.json.encode(cost), indent=2).decode())
