"""The bench as `make bench` runs it, on a register of fifty: every row is there. Its figures are no business here."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from bench import report
from tests.postgres_places import REPOSITORY, eventually, open_directory

FLOWS = {
    "jobs": "≥ 1,000/s",
    "messages": "≥ 2,500/s",
    "students, GET": "≥ 4,275/s",
    "students, POST": "≥ 2,748/s",
    "memory, idle, work": "≤ 70 MB",
    "memory, idle, schedule": "≤ 70 MB",
    "memory, idle, consume": "≤ 70 MB",
}
CONTACTS = {"contacts, list of 1,000": "≥ 300/s", "contacts, GET": "≥ 6,798/s", "contacts, POST": "≥ 1,998/s"}
LIMITS = {
    "POST of 50": {"bare COPY in one transaction", "decode and check alone"},
    "DELETE of 50": {"Kinfolk, POST of the same", "bare SQL"},
    "GET of 50, cold": {"bare read", "bare read and encode"},
    "GET of 50, warm": {"the same bytes from nginx"},
    "GET birthdays, cold": {"bare SQL"},
    "GET birthdays, warm": {"bare SQL"},
    "GET percentiles, cold": {"bare SQL"},
    "GET percentiles, warm": {"bare SQL"},
    "PATCH of a name": {"bare SQL, one round trip"},
    "PATCH of a name, 8 clients, over 8 imports": {"bare SQL over 8 imports", "one page after another on disk"},
    "PATCH of a name, 8 clients, on one import": {"bare SQL on one import", "one page after another on disk"},
    "304": {"304 of nginx"},
    "304, 8 clients": {"304 of nginx"},
    "/health, while the largest documents are imported, p99": {"Kinfolk, idle"},
    "POST of 50, among 500": {"Kinfolk, among few"},
    "GET of 50, cold, among 500": {"Kinfolk, among few"},
    "GET of 50, cold, an old one among 500": {"Kinfolk, among few"},
    "memory, idle": {""},
    "memory, largest document": {"idle"},
    "layers, in process": {"bare framework"},
    "layers, over HTTP": {"bare framework"},
    **{name: {""} for name in CONTACTS | FLOWS},
}
BARS = {
    ("POST of 50", "bare COPY in one transaction"): "≤ 2 times",
    ("DELETE of 50", "Kinfolk, POST of the same"): "≤ 1 times",
    ("GET of 50, cold", "bare read and encode"): "≤ 1.3 times",
    ("GET of 50, warm", "the same bytes from nginx"): "≤ 1.5 times",
    ("GET birthdays, cold", "bare SQL"): "≤ 1.2 times",
    ("GET birthdays, warm", "bare SQL"): "≤ 1.50 ms",
    ("GET percentiles, cold", "bare SQL"): "≤ 1.2 times",
    ("GET percentiles, warm", "bare SQL"): "≤ 1.50 ms",
    ("PATCH of a name, 8 clients, over 8 imports", "bare SQL over 8 imports"): "≥ 2,500/s",
    ("PATCH of a name, 8 clients, on one import", "bare SQL on one import"): "≥ 1,200/s",
    ("304, 8 clients", "304 of nginx"): "≥ 5,000/s",
    ("/health, while the largest documents are imported, p99", "Kinfolk, idle"): "≤ 25 ms",
    ("POST of 50, among 500", "Kinfolk, among few"): "≤ 1.3 times",
    ("GET of 50, cold, among 500", "Kinfolk, among few"): "≤ 1.3 times",
    ("GET of 50, cold, an old one among 500", "Kinfolk, among few"): "≤ 1.3 times",
    ("memory, idle", ""): "≤ 65 MB",
    ("memory, largest document", "idle"): "≤ 260 MB",
    ("layers, in process", "bare framework"): "≤ 25 µs",
    ("layers, over HTTP", "bare framework"): "≤ 25 µs",
    **{(name, ""): bar for name, bar in (CONTACTS | FLOWS).items()},
}
SMALL = ("--citizens", "50", "--imports", "10", "--rounds", "1", "--flow", "300")
AS_SHOWN = re.compile(r"-?[0-9,.]+(/s| ms| MB| µs)")
"""What the layers cost is a difference, which one round on a busy machine may take for less than nothing."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_directory() as folder:
        yield folder


def bench(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Whatever it makes and starts has the folder in its name."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *SMALL, *words],
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
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 0, printed
    assert left_in(folder) == []
    assert {path.name for path in folder.iterdir()} == {"page.md", "page.svg", "results"}

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "last week" not in text
    assert set(text.splitlines()[2:-2]) <= set(printed.splitlines())

    measured = json.loads(figures.read_bytes())
    check_figures(measured)
    check_table(text, measured["rows"])
    check_chart(page.with_suffix(".svg").read_text(), measured["rows"])


def check_table(text: str, measured: list[dict[str, Any]]) -> None:
    limits: dict[str, set[str]] = {}
    bars = {}
    table = [row for row in rows(text) if len(row) == 7][1:]
    for (operation, median, _p95, beside, limit, _times, bar), row in zip(table, measured, strict=True):
        assert (operation, beside) == (row["operation"], row["beside"])
        limits.setdefault(operation, set()).add(beside)
        assert AS_SHOWN.fullmatch(median)
        assert AS_SHOWN.fullmatch(limit) or not beside
        if bar:
            bars[operation, beside], _, verdict = bar.rpartition(", ")
            assert verdict == ("met" if row["used"] <= 1 else "**missed**")
            assert row["used"] == pytest.approx(part_used(row))
    assert {operation: found - {"the other" + suffix(operation)} for operation, found in limits.items()} == LIMITS
    asked_of_both = {operation for operation in limits if operation.startswith(("POST of 50", "GET", "PATCH", "304"))}
    asked_of_both = {operation for operation in asked_of_both if "among" not in operation}
    assert {
        operation for operation, found in limits.items() if "the other" + suffix(operation) in found
    } == asked_of_both
    assert bars == BARS


def part_used(row: dict[str, Any]) -> float:
    """From the figures themselves: a rate has to reach its bar, all else must not exceed it."""
    bar = row["bar"]
    if bar["kind"] == "times":
        return float(row["measured"] / row["limit"] / bar["value"])
    return float(bar["value"] / row["measured"] if bar["kind"] == "least" else row["measured"] / bar["value"])


def check_chart(svg: str, measured: list[dict[str, Any]]) -> None:
    drawn = ElementTree.fromstring(svg)
    kinds = [part.get("class") for part in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds == ["met" if row["used"] <= 1 else "missed" for row in measured if row["bar"]]
    written = [part.text for part in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {row["operation"] for row in measured if row["bar"]} <= set(written)


def suffix(operation: str) -> str:
    """How a contender's name ends for this operation."""
    name, _, form = operation.rpartition(", ")
    return f", {form}" if name and form != "8 clients" else ""


def check_figures(measured: dict[str, Any]) -> None:
    assert measured["citizens"] == 50
    megabytes = measured["megabytes"]
    assert 0 < megabytes["idle"] <= megabytes["largest"]
    for result in measured["results"]:
        for figures in result["figures"]:
            assert 0 < figures["median_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
            if result["name"] == "/health":
                continue
            assert result["peak_megabytes"] > megabytes["idle"] / 2
            assert figures["cpu_ms"].keys() == {"client", "API", "database"}
            assert all(math.isfinite(spent) and spent >= 0 for spent in figures["cpu_ms"].values())
            is_ours = figures["name"].startswith("Kinfolk")
            assert not is_ours or figures["cpu_ms"]["API"] > 0, "our processes are not watched"
    for rate in measured["flows"]["rates"].values():
        assert len(rate["a_second"]) == 1
        assert all(figure > 0 for figure in (*rate["a_second"], rate["cpu_us"]))
    layers = measured["layers"]
    assert layers["in_process"].keys() == {"bare", "quiet", "whole", "added"}
    assert layers["over_http"].keys() == {"bare", "whole", "added"}
    assert all(kind[form] > 0 for kind in layers.values() for form in kind.keys() - {"added"})


def test_an_interrupted_run_leaves_nothing_behind(folder: Path) -> None:
    with bench(folder, "--page", str(folder / "none")) as run:
        assert run.stdout
        started = next(line for line in run.stdout if line.startswith("bench: "))
        assert started == "bench: the largest documents\n"
        assert eventually(lambda: len(left_in(folder)) > 2), "nginx and PostgreSQL have the folder in their words"
        run.send_signal(signal.SIGINT)
        assert "bench: layers" not in run.stdout.read(), "it went on to the end"
    assert run.returncode != 0
    assert eventually(lambda: left_in(folder) == [])
    assert list(folder.iterdir()) == []
