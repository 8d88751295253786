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

from bench import contacts, flows, growth, large_documents, report
from bench.chart import as_svg
from bench.client import Connection, ask_together
from bench.layers import PATH, REQUESTS_A_BATCH, compared
from bench.limits import Bare, Disk
from bench.operations import CLIENTS, OTHER, OURS, Experiment, Scene, Service, experiments
from bench.processes import Memory, cpu_seconds, family, pss_megabytes
from bench.report import Megabytes, Result
from bench.rounds import SETTLE_SECONDS, WARM_UP_ROUNDS, alternate
from bench.servers import kinfolk_api, layer_server, nginx, postgres
from kinfolk.modules.citizens.register import read_register

SEED = 1
ROUNDS_OVER_HTTP = 3
"""Of layers, for each round of others: a round takes a tenth of a second, and is unsteady."""
PAGE = report.REPOSITORY / "docs/performance.md"


def main() -> None:
    wanted = _arguments()
    started, begun, load = datetime.now(UTC), time.monotonic(), report.load()
    with _open_folder() as folder:
        machine, megabytes, results = _operations(wanted, folder)
    with _open_folder() as folder:
        layers = report.Layers(_layers_in_process(folder, wanted.rounds), _layers_over_http(folder, wanted.rounds))
    with _open_folder() as folder:
        _say("jobs, messages, students")
        flowing = flows.measure(folder, wanted.rounds, wanted.flow)
    run = report.Run(
        started=started.replace(microsecond=0),
        seconds=round(time.monotonic() - begun),
        commit=report.commit(),
        citizens=wanted.citizens,
        rounds=wanted.rounds,
        machine=machine,
        load=(load, report.load()),
        megabytes=megabytes,
        results=results,
        layers=layers,
        flows=flowing,
        rows=[*report.rows(results, megabytes, layers), *flowing.rows()],
    )
    text = report.as_markdown(run)
    print(text)
    wanted.json.parent.mkdir(parents=True, exist_ok=True)
    wanted.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    report.write_between_marks(wanted.page, text)
    wanted.page.with_suffix(".svg").write_text(as_svg(run.rows))
    if wanted.page == PAGE:
        report.write_between_marks(report.REPOSITORY / "README.md", report.in_brief(run), report.BRIEF)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--compare", metavar="URL", help="another server of the same API, measured beside ours")
    parser.add_argument("--citizens", type=int, default=10_000, help="in a register")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--imports", type=int, default=1_000, help="in the grown database; 0: leave it out")
    parser.add_argument("--flow", type=int, default=flows.MANY, help="jobs and messages in a round")
    parser.add_argument("--json", type=Path, default=report.REPOSITORY / "bench/results/latest.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="the chart goes beside it, as .svg")
    return parser.parse_args()


def _operations(wanted: argparse.Namespace, folder: Path) -> tuple[dict[str, str], Megabytes, list[Result]]:
    """On what it ran, the memory it takes, and every experiment's result."""
    if not growth.has_room(folder, wanted.imports * wanted.citizens):
        raise SystemExit(f"{folder} has no room for {wanted.imports:,} imports; set TMPDIR, or leave them out: QUICK=1")
    document = _register(wanted.citizens)
    with ExitStack() as stack:
        pg_url, pg_pid = stack.enter_context(postgres(folder / "data"))
        with closing(Bare(pg_url)) as bare:
            machine = report.machine(bare.version())
        megabytes, health = _large_documents(wanted, folder, pg_url)
        url, pid = stack.enter_context(kinfolk_api(pg_url, folder / "api.log"))
        results = _beside_limits(wanted, folder, document, pg_url, url, {"API": pid, "database": pg_pid})
        results.append(health)
        watched = {"API": [pid], "database": [pg_pid]}
        results += [_result(each, wanted.rounds, watched, Memory(pid)) for each in contacts.experiments(url)]
        if wanted.imports:
            _say(f"{wanted.imports:,} imports in a database of their own")
            few = stack.enter_context(closing(Service(f"{OURS}, among few", url, document)))
            many, other_pid = stack.enter_context(growth.grown_service(pg_url, folder, document, wanted.imports))
            watched["API"].append(other_pid)
            for experiment in growth.experiments(few, many, f"{wanted.citizens:,}", wanted.imports):
                results.append(_result(experiment, wanted.rounds, watched, Memory(other_pid)))
    return machine, megabytes, results


def _large_documents(wanted: argparse.Namespace, folder: Path, pg_url: str) -> tuple[Megabytes, Result]:
    _say("the largest documents")
    file = folder / "largest.json"
    file.write_bytes(large_documents.largest_document(wanted.citizens))
    with kinfolk_api(pg_url, folder / "large.log") as (url, pid):
        _alive(url)
        idle = pss_megabytes(family(pid))
        most = large_documents.peak_while_imported(url, pid, file.read_bytes())
        return Megabytes(idle, most), large_documents.probe_meanwhile(url, file, max(1, wanted.rounds // 2))


def _beside_limits(
    wanted: argparse.Namespace, folder: Path, document: bytes, pg_url: str, url: str, pids: dict[str, int]
) -> list[Result]:
    today = datetime.now(UTC).date()
    with ExitStack() as stack:
        bare = stack.enter_context(closing(Bare(pg_url, connections=CLIENTS)))
        disk = stack.enter_context(closing(Disk(folder)))
        urls = [(OURS, url)] + ([(OTHER, wanted.compare)] if wanted.compare else [])
        _alive(url)
        memory = Memory(pids["API"])
        services = [stack.enter_context(closing(Service(name, place, document))) for name, place in urls]
        files = {"answer": services[0].body("citizens"), "small": b"{}"}
        files_url, _ = stack.enter_context(nginx(folder / "nginx", files))
        scene = Scene(document, read_register(document, today), today, bare, disk, files_url)
        watched = {whose: [pid] for whose, pid in pids.items()}
        return [_result(each, wanted.rounds, watched, memory) for each in experiments(scene, services)]


def _result(experiment: Experiment, rounds: int, watched: dict[str, list[int]], memory: Memory) -> Result:
    _say(experiment.name)
    memory.forget_peak()
    figures = alternate(
        experiment.contenders,
        rounds,
        lambda: {whose: [pid for root in pids for pid in family(root)] for whose, pids in watched.items()},
    )
    return Result(experiment.name, figures, experiment.comparisons, memory.peak_megabytes())


def _register(size: int) -> bytes:
    command = [sys.executable, "-m", "kinfolk", "generate", str(size), "--seed", str(SEED)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _alive(url: str) -> None:
    with closing(Connection(url)) as connection:
        connection.ask(connection.request("GET", "/health"), 200)


def _layers_in_process(folder: Path, rounds: int) -> dict[str, float]:
    """In a process of its own, whose log is a file."""
    _say("layers in process")
    command = [sys.executable, "-m", "bench.layers", "measure", str(rounds)]
    with (folder / "layers.log").open("wb") as log:
        printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=True).stdout
    return msgspec.json.decode(printed, type=dict[str, float])


def _layers_over_http(folder: Path, rounds: int) -> dict[str, float]:
    _say("layers over HTTP")
    taken: dict[str, list[float]] = {"bare": [], "whole": []}
    with ExitStack() as stack:
        servers = {}
        for form in taken:
            url, pid = stack.enter_context(layer_server(form, folder / f"{form}.log"))
            connections = [stack.enter_context(closing(Connection(url))) for _ in range(CLIENTS)]
            asking = [[connections[0].request("GET", PATH)] * (REQUESTS_A_BATCH // CLIENTS)] * CLIENTS
            servers[form] = pid, partial(ask_together, connections, asking, 200)
        for number in range(rounds * ROUNDS_OVER_HTTP + WARM_UP_ROUNDS):
            for form, (pid, run) in servers.items():
                before = cpu_seconds([pid])
                run()
                time.sleep(SETTLE_SECONDS)
                if number >= WARM_UP_ROUNDS:
                    taken[form].append((cpu_seconds([pid]) - before) / REQUESTS_A_BATCH * 1_000_000)
    return compared(taken)


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


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
