"""The bench as `make bench` runs it, on a register of fifty: every row is there. Its figures are no business here."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import report
from tests.postgres_places import REPOSITORY, eventually, open_directory

OPERATIONS = {
    "POST of 50": {"bare COPY in one transaction", "decode and check alone"},
    "GET of 50, cold": {"bare read", "bare read and encode"},
    "GET of 50, warm": {"the same bytes from nginx"},
    "GET birthdays, cold": {"bare SQL"},
    "GET birthdays, warm": {"bare SQL"},
    "GET percentiles, cold": {"bare SQL"},
    "GET percentiles, warm": {"bare SQL"},
    "PATCH of a name": {"bare SQL, one round trip"},
    "PATCH of a name, 8 clients, over 8 imports": {"bare SQL over 8 imports"},
    "PATCH of a name, 8 clients, on one import": {"bare SQL on one import"},
    "304": {"304 of nginx"},
    "304, 8 clients": {"304 of nginx"},
}
BARRED = {"POST of 50": "3 times", "GET of 50, cold": "2 times", "PATCH of a name": "2 ms"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_directory() as folder:
        yield folder


def bench(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Whatever it makes and starts has the folder in its name."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "--citizens", "50", "--rounds", "1", *words],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_in(folder: Path) -> list[str]:
    """Command lines of processes of the folder."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


def rows(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]


def test_every_operation_stands_beside_its_limits(folder: Path, service_url: str) -> None:
    page, figures = folder / "page.md", folder / "results/figures.json"
    page.write_text(f"before\n{report.BEGIN}\nfigures of last week\n{report.END}\nafter\n")
    run = bench(folder, "--page", str(page), "--json", str(figures), "--compare", service_url)
    printed, _ = run.communicate(timeout=300)
    assert run.returncode == 0, printed
    assert left_in(folder) == []
    assert {path.name for path in folder.iterdir()} == {"page.md", "results"}

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "last week" not in text
    assert set(text.splitlines()[2:-2]) <= set(printed.splitlines())

    limits: dict[str, set[str]] = {}
    for operation, median, p95, beside, _, times, bar in (row for row in rows(text) if len(row) == 7):
        if operation == "operation":
            continue
        limits.setdefault(operation, set()).add(beside)
        assert all(float(re.sub(r" \(.*", "", number)) > 0 for number in (median, p95, times))
        if beside in ("bare COPY in one transaction", "bare read", "bare SQL, one round trip"):
            assert re.fullmatch(rf"≤ {BARRED[operation]}, (met|\*\*missed\*\*)", bar)
        else:
            assert not bar
    assert {operation: found - {"the other" + suffix(operation)} for operation, found in limits.items()} == OPERATIONS
    assert all("the other" + suffix(operation) in found for operation, found in limits.items())

    measured = json.loads(figures.read_bytes())
    check_figures(measured)


def suffix(operation: str) -> str:
    """How a contender's name ends for this operation."""
    name, _, form = operation.rpartition(", ")
    return f", {form}" if name and form != "8 clients" else ""


def check_figures(measured: dict[str, Any]) -> None:
    assert measured["citizens"] == 50
    assert measured["idle_megabytes"] > 0
    for result in measured["results"]:
        assert result["peak_megabytes"] >= measured["idle_megabytes"]
        for figures in result["figures"]:
            assert figures["cpu_ms"].keys() == {"client", "API", "database"}
            assert all(math.isfinite(spent) and spent >= 0 for spent in figures["cpu_ms"].values())
            assert 0 < figures["median_ms"] <= figures["p95_ms"]
            is_ours = figures["name"].startswith("Kinfolk")
            assert not is_ours or figures["cpu_ms"]["API"] > 0, "our processes are not watched"
    layers = measured["layers"]
    assert layers["in_process"].keys() == {"bare", "compression", "quiet", "whole"}
    assert layers["over_http"].keys() == {"bare", "whole"}
    assert all(taken > 0 for kind in layers.values() for taken in kind.values())


def test_an_interrupted_run_leaves_nothing_behind(folder: Path) -> None:
    run = bench(folder, "--page", str(folder / "none"))
    assert run.stdout
    started = next(line for line in run.stdout if line.startswith("bench: "))
    assert started == "bench: POST of 50\n"
    assert eventually(lambda: len(left_in(folder)) > 2), "nginx and PostgreSQL have the folder in their words"
    run.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert run.wait(40) != 0
    run.stdout.close()
    assert time.monotonic() - begun < 40
    assert eventually(lambda: left_in(folder) == [])
    assert list(folder.iterdir()) == []
