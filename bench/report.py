"""What a run found: printed, as JSON, and between the marks of a page."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from bench.operations import Comparison
from bench.rounds import Figures

BRIEF = ("<!-- bench -->", "<!-- /bench -->")
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench wrote -->"
MOST_LAYERS_US = 25

REPOSITORY = Path(__file__).resolve().parent.parent


class Result(msgspec.Struct):
    """An experiment's figures."""

    name: str
    figures: list[Figures]
    comparisons: list[Comparison]
    peak_megabytes: float
    """Of all processes of our API, most of them while this ran."""

    def of(self, name: str) -> Figures:
        return next(figures for figures in self.figures if figures.name == name)


class Layers(msgspec.Struct):
    """Microseconds of CPU time a request, by form of the application; see `bench.layers`."""

    in_process: dict[str, float]
    over_http: dict[str, float]


class Run(msgspec.Struct):
    """All of one run."""

    started: datetime
    seconds: int
    commit: str
    citizens: int
    rounds: int
    machine: dict[str, str]
    load: tuple[str, str]
    """The load of the machine in its last minute, before and after."""
    idle_megabytes: float
    results: list[Result]
    layers: Layers


def commit() -> str:
    """What was measured, with a `+` when the tree held more than that; `unknown` outside a checkout."""
    asking = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(asking, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(postgres_version: str) -> dict[str, str]:
    """On what it ran."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    return {
        "processor": f"{os.cpu_count()} × {processor}",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres_version,
    }


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def as_markdown(run: Run) -> str:
    """The whole as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    kinds = f"{run.citizens:,} citizens, {run.rounds} rounds, commit {run.commit}"
    return "\n".join(
        [
            f"{run.started:%Y-%m-%d %H:%M} UTC, {run.seconds} s, {kinds}.",
            f"{machine}. Load of the machine before and after: {' and '.join(run.load)}.",
            "",
            *_table(
                ["operation", "median ms", "p95", "beside", "median ms", "times", "bar"],
                (_compared(result, comparison) for result in run.results for comparison in result.comparisons),
            ),
            "",
            f"Layers, in µs of CPU time a request (bar: {MOST_LAYERS_US} for all of them):",
            "",
            *_table(
                ["measured", "bare framework", "with compression", "with front, metrics", "with log", "all layers"],
                _layers(run.layers),
            ),
            "",
            f"Each contender; memory of the API at rest: {run.idle_megabytes:.0f} MB:",
            "",
            *_table(
                ["operation", "by", "median ms", "p95", "CPU ms: API", "database", "client", "most MB"],
                (_alone(result, figures) for result in run.results for figures in result.figures),
            ),
            "",
        ]
    )  # fmt: skip


def in_brief(run: Run) -> str:
    """What a reader of the README wants to know."""
    rows = [
        _compared(result, comparison)
        for result in run.results
        for comparison in result.comparisons
        if comparison is result.comparisons[0]
    ]
    measured = f"`make bench` on {run.machine['processor']}, {run.started:%Y-%m-%d}: medians of {run.rounds} rounds"
    return "\n".join(
        [
            f"{measured}, each operation beside its limit in the same run ([all of it](docs/performance.md)).",
            "",
            *_table(
                ["operation", "ms", "its limit", "ms", "times"],
                ([what, ours, limit, its, times] for what, ours, _p95, limit, its, times, _bar in rows),
            ),
            "",
        ]
    )  # fmt: skip


def write_between_marks(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what a page has between the marks; ends the bench when they are not there."""
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SystemExit(f"{page} lacks the marks {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}")


def _compared(result: Result, comparison: Comparison) -> list[str]:
    subject, limit = result.of(comparison.subject), result.of(comparison.limit)
    form = comparison.subject.partition(", ")[2]
    times = subject.median_ms / limit.median_ms
    bar = ""
    if comparison.most_times is not None:
        bar = _bar(times <= comparison.most_times, f"{comparison.most_times:g} times")
    elif comparison.most_ms is not None:
        bar = _bar(subject.median_ms < comparison.most_ms, f"{comparison.most_ms:g} ms")
    what = f"{result.name}, {form}" if form else result.name
    return [what, _median(subject), _ms(subject.p95_ms), limit.name, _median(limit), f"{times:.2f}", bar]


def _alone(result: Result, figures: Figures) -> list[str]:
    is_ours = figures.name.startswith("Kinfolk")
    cpu = [_ms(figures.cpu_ms[whose]) for whose in ("API", "database", "client")]
    if not is_ours:
        cpu[0] = ""
    peak = f"{result.peak_megabytes:.0f}" if is_ours else ""
    return [result.name, figures.name, _median(figures), _ms(figures.p95_ms), *cpu, peak]


def _layers(layers: Layers) -> Iterable[list[str]]:
    for measured, taken in (("in process", layers.in_process), ("over HTTP", layers.over_http)):
        steps = [f"{taken[form]:.1f}" if form in taken else "" for form in ("bare", "compression", "quiet", "whole")]
        cost = taken["whole"] - taken["bare"]
        yield [measured, *steps, f"{cost:.1f}: {_bar(cost <= MOST_LAYERS_US, f'{MOST_LAYERS_US}')}"]


def _bar(is_met: bool, most: str) -> str:
    return f"≤ {most}, {'met' if is_met else '**missed**'}"


def _median(figures: Figures) -> str:
    """With how many a second, where they came from several clients or in a row."""
    return _ms(figures.median_ms) + (f" ({1_000 / figures.median_ms:,.0f}/s)" if figures.is_batch else "")


def _ms(milliseconds: float) -> str:
    return (
        f"{milliseconds:.3f}"
        if milliseconds < 1
        else f"{milliseconds:.2f}"
        if milliseconds < 10
        else f"{milliseconds:.0f}"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned, so that it reads in a terminal too; the first column is text."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
