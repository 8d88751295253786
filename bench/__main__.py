"""`make bench`: every operation beside its limit, in one go, on servers of its own."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from shutil import rmtree

import msgspec

from bench import report
from bench.client import Connection, ask_together
from bench.layers import PATH, REQUESTS_A_BATCH
from bench.limits import Bare
from bench.operations import CLIENTS, OTHER, OURS, Scene, Service, experiments
from bench.processes import Memory, family
from bench.rounds import Contender, alternate
from bench.servers import kinfolk_api, layer_server, nginx, postgres
from kinfolk.modules.citizens.register import read_register

SEED = 1
PAGE = report.REPOSITORY / "docs/performance.md"


def main() -> None:
    wanted = _arguments()
    started, begun, load = datetime.now(UTC), time.monotonic(), report.load()
    with _open_folder() as folder, ExitStack() as stack:
        pg_url, pg_pid = stack.enter_context(postgres(folder / "data"))
        bare = stack.enter_context(closing(Bare(pg_url, connections=CLIENTS)))
        machine = report.machine(bare.version())
        idle_megabytes, results = _operations(wanted, folder, pg_url, pg_pid, bare)
    with _open_folder() as folder:
        layers = report.Layers(_layers_in_process(folder, wanted.rounds), _layers_over_http(folder, wanted.rounds))
    run = report.Run(
        started=started.replace(microsecond=0),
        seconds=round(time.monotonic() - begun),
        commit=report.commit(),
        citizens=wanted.citizens,
        rounds=wanted.rounds,
        machine=machine,
        load=(load, report.load()),
        idle_megabytes=idle_megabytes,
        results=results,
        layers=layers,
    )
    text = report.as_markdown(run)
    print(text)
    wanted.json.parent.mkdir(parents=True, exist_ok=True)
    wanted.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    report.write_between_marks(wanted.page, text)
    if wanted.page == PAGE:
        report.write_between_marks(report.REPOSITORY / "README.md", report.in_brief(run), report.BRIEF)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--compare", metavar="URL", help="another server of the same API, measured beside ours")
    parser.add_argument("--citizens", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=report.REPOSITORY / "bench/results/latest.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def _operations(
    wanted: argparse.Namespace, folder: Path, pg_url: str, pg_pid: int, bare: Bare
) -> tuple[float, list[report.Result]]:
    """What the API weighs at rest, and every experiment's result."""
    document = _register(wanted.citizens)
    today = datetime.now(UTC).date()
    with ExitStack() as stack:
        url, pid = stack.enter_context(kinfolk_api(pg_url, folder / "api.log"))
        urls = [(OURS, url)] + ([(OTHER, wanted.compare)] if wanted.compare else [])
        _alive(url)
        memory = Memory(pid)
        services = [stack.enter_context(closing(Service(name, place, document))) for name, place in urls]
        files = {"answer": services[0].body("citizens"), "small": b"{}"}
        files_url, _ = stack.enter_context(nginx(folder / "nginx", files))
        scene = Scene(document, read_register(document, today), today, bare, files_url)
        results = []
        for experiment in experiments(scene, services):
            print(f"bench: {experiment.name}", file=sys.stderr, flush=True)
            memory.forget_peak()
            figures = alternate(
                experiment.contenders, wanted.rounds, lambda: {"API": family(pid), "database": family(pg_pid)}
            )
            results.append(report.Result(experiment.name, figures, experiment.comparisons, memory.peak_megabytes()))
        return memory.rest_megabytes, results


def _register(size: int) -> bytes:
    command = [sys.executable, "-m", "kinfolk", "generate", str(size), "--seed", str(SEED)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _alive(url: str) -> None:
    with closing(Connection(url)) as connection:
        connection.ask(connection.request("GET", "/health"), 200)


def _layers_in_process(folder: Path, rounds: int) -> dict[str, float]:
    """In a process of its own, whose log is a file."""
    print("bench: layers in process", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "bench.layers", "measure", str(rounds)]
    with (folder / "layers.log").open("wb") as log:
        printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=True).stdout
    return msgspec.json.decode(printed, type=dict[str, float])


def _layers_over_http(folder: Path, rounds: int) -> dict[str, float]:
    print("bench: layers over HTTP", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        contenders, pids = [], {}
        for form in ("bare", "whole"):
            url, pids[form] = stack.enter_context(layer_server(form, folder / f"{form}.log"))
            connections = [stack.enter_context(closing(Connection(url))) for _ in range(CLIENTS)]
            asking = [[connections[0].request("GET", PATH)] * (REQUESTS_A_BATCH // CLIENTS)] * CLIENTS
            run = partial(ask_together, connections, asking, 200)
            contenders.append(Contender(form, run, operations=REQUESTS_A_BATCH))
        figures = alternate(contenders, rounds, lambda: {form: [pid] for form, pid in pids.items()})
    return {one.name: one.cpu_ms[one.name] * 1_000 for one in figures}


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A temporary folder that nginx's and PostgreSQL's users can pass."""
    folder = Path(tempfile.mkdtemp(prefix="kinfolk-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
