"""What a run found: printed, as JSON, and between the marks of a page."""

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from bench.bars import Bar, Row, Unit
from bench.flows import Flows
from bench.operations import OURS, Comparison
from bench.rounds import Figures

BRIEF = ("<!-- bench -->", "<!-- /bench -->")
BEGIN, END = "<!-- written by make bench -->", "<!-- end of what make bench wrote -->"
MOST_LAYERS = Bar("most", 25)

REPOSITORY = Path(__file__).resolve().parent.parent


class Result(msgspec.Struct):
    """An experiment's figures."""

    name: str
    figures: list[Figures]
    comparisons: list[Comparison]
    peak_megabytes: float | None = None
    """Of all processes of our API, most of them while this ran."""

    def of(self, name: str) -> Figures:
        return next(figures for figures in self.figures if figures.name == name)


class Layers(msgspec.Struct):
    """Microseconds of CPU time a request, by form of the application, and what is added; see `bench.layers`."""

    in_process: dict[str, float]
    over_http: dict[str, float]


class Megabytes(msgspec.Struct):
    """Of all processes of a service with one worker, each shared page counted once."""

    idle: float
    largest: float
    """At the most, while the largest document was imported."""


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
    megabytes: Megabytes
    results: list[Result]
    layers: Layers
    flows: Flows
    rows: list[Row]
    """The table: what is derived from all of the above."""


def rows(results: Sequence[Result], megabytes: Megabytes, layers: Layers) -> list[Row]:
    """Each figure that has a limit or a bar."""
    memory = [
        Row("memory, idle", "MB", megabytes.idle, None, "", None, Bar("most", 65)),
        Row("memory, largest document", "MB", megabytes.largest, None, "idle", megabytes.idle, Bar("most", 260)),
    ]
    layered = [
        Row(f"layers, {how}", "µs", taken["added"], None, "bare framework", taken["bare"], MOST_LAYERS)
        for how, taken in (("in process", layers.in_process), ("over HTTP", layers.over_http))
    ]
    return [*(_row(result, each) for result in results for each in result.comparisons), *memory, *layered]


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
            in_words(run.rows),
            "",
            *_table(["operation", "median", "p95", "beside", "median", "times", "bar"], map(_cells, run.rows)),
            "",
            "Layers, in µs of CPU time a request:",
            "",
            *_table(
                ["measured", "bare framework", "with front, metrics", "with log", "added"],
                _layers(run.layers),
            ),
            "",
            "Each contender:",
            "",
            *_table(
                ["operation", "by", "median", "p95", "CPU ms: API", "database", "client", "most MB"],
                (_alone(result, figures) for result in run.results for figures in result.figures),
            ),
            "",
        ]
    )  # fmt: skip


def in_words(rows: Sequence[Row]) -> str:
    """How many bars are met, and which are not."""
    barred = [row for row in rows if row.bar is not None]
    missed = [row.operation for row in barred if not row.is_met]
    count = f"{len(barred) - len(missed)} of {len(barred)} bars met"
    return f"{count}; missed: {'; '.join(missed)}." if missed else f"{count}."


def in_brief(run: Run) -> str:
    """What a reader of the README wants to know: the rows that have a bar."""
    measured = f"`make bench` on {run.machine['processor']}, {run.started:%Y-%m-%d}: medians of {run.rounds} rounds"
    columns = ["operation", "median", "its limit", "median", "times", "bar"]
    cells = [_cells(row) for row in run.rows if row.bar is not None]
    return "\n".join(
        [
            f"{measured}, each operation beside its limit in the same run ([all of it](docs/performance.md)).",
            in_words(run.rows),
            "",
            *_table(columns, ([*row[:2], *row[3:]] for row in cells)),
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


def _row(result: Result, comparison: Comparison) -> Row:
    subject, beside = result.of(comparison.subject), comparison.limit or ""
    limit = result.of(beside) if beside else None
    form = comparison.subject.partition(", ")[2]
    what = f"{result.name}, {form}" if form else result.name
    if comparison.is_by_p99:
        return Row(f"{what}, p99", "ms", subject.p99_ms, None, beside, limit and limit.p99_ms, comparison.bar)
    if subject.is_batch:
        measured, slow = 1_000 / subject.median_ms, 1_000 / subject.p95_ms
        return Row(what, "/s", measured, slow, beside, limit and 1_000 / limit.median_ms, comparison.bar)
    return Row(what, "ms", subject.median_ms, subject.p95_ms, beside, limit and limit.median_ms, comparison.bar)


def _cells(row: Row) -> list[str]:
    times = "" if row.times is None else f"{row.times:.2f}"
    p95, limit = ("" if each is None else _shown(each, row.unit) for each in (row.p95, row.limit))
    return [row.operation, _shown(row.measured, row.unit), p95, row.beside, limit, times, _bar(row)]


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    allowed = f"{row.bar.value:g} times" if row.bar.kind == "times" else _shown(row.bar.value, row.unit)
    return f"{'≥' if row.bar.kind == 'least' else '≤'} {allowed}, {'met' if row.is_met else '**missed**'}"


def _alone(result: Result, figures: Figures) -> list[str]:
    is_ours = figures.name.startswith(OURS)
    shown = ("API", "database", "client") if is_ours else ("", "database", "client")
    cpu = [_ms(figures.cpu_ms[whose]) if whose in figures.cpu_ms else "" for whose in shown]
    peak = f"{result.peak_megabytes:.0f}" if is_ours and result.peak_megabytes else ""
    return [result.name, figures.name, *_pace(figures), *cpu, peak]


def _layers(layers: Layers) -> Iterable[list[str]]:
    for measured, taken in (("in process", layers.in_process), ("over HTTP", layers.over_http)):
        steps = [f"{taken[form]:.1f}" if form in taken else "" for form in ("bare", "quiet", "whole", "added")]
        yield [measured, *steps]


def _pace(figures: Figures) -> list[str]:
    unit: Unit = "/s" if figures.is_batch else "ms"
    return [_shown(1_000 / each if figures.is_batch else each, unit) for each in (figures.median_ms, figures.p95_ms)]


def _shown(figure: float, unit: Unit) -> str:
    if unit == "/s":
        return f"{figure:,.0f}/s"
    if figure >= 10 or figure == int(figure):
        return f"{figure:,.0f} {unit}"
    return f"{figure:.3f} {unit}" if figure < 1 else f"{figure:.2f} {unit}"


def _ms(milliseconds: float) -> str:
    return _shown(milliseconds, "ms").removesuffix(" ms")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned, so that it reads in a terminal too; the first column is text."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
