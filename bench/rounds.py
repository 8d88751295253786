"""Contenders in alternating rounds: A B C A B C, so that a noisy neighbour hits all of them alike."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from bench.processes import cpu_seconds

WARM_UP_ROUNDS = 3
SETTLE_SECONDS = 0.04  # what is written behind, log and WAL, belongs to the run before it


@dataclass
class Contender:
    """Something done each round; `prepare` comes before it and is not measured."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] | None = None
    repeats: int = 1
    """How often it runs in a round, each time measured by itself."""
    operations: int = 1
    """How many of what is counted one run does."""


class Figures(msgspec.Struct):
    """What one operation of a contender took."""

    name: str
    median_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: dict[str, float]
    """Medians of CPU time, by whose processes: `client` (this one), and those named by the caller."""
    is_batch: bool
    """Many operations ran in one go: the times are those of the whole divided by their number."""
    runs_ms: list[float]

    @classmethod
    def of(cls, name: str, runs_ms: list[float], cpu_ms: Mapping[str, list[float]], *, is_batch: bool) -> "Figures":
        return cls(
            name=name,
            median_ms=statistics.median(runs_ms),
            p95_ms=percentile(runs_ms, 95),
            p99_ms=percentile(runs_ms, 99),
            cpu_ms={whose: statistics.median(times) for whose, times in cpu_ms.items()},
            is_batch=is_batch,
            runs_ms=runs_ms,
        )


@dataclass
class _Seen:
    runs_ms: list[float] = field(default_factory=list)
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def alternate(
    contenders: Sequence[Contender], rounds: int, processes: Callable[[], Mapping[str, Sequence[int]]]
) -> list[Figures]:
    """Run all contenders in turn; `processes` names those whose CPU time is read, asked once all are warm."""
    for _ in range(min(WARM_UP_ROUNDS, rounds)):
        for contender in contenders:
            _run(contender, _Seen(), {})
    watched = processes()
    seen = [_Seen() for _ in contenders]
    for _ in range(rounds):
        for contender, own in zip(contenders, seen, strict=True):
            _run(contender, own, watched)
    return [
        Figures.of(contender.name, own.runs_ms, own.cpu_ms, is_batch=contender.operations > 1)
        for contender, own in zip(contenders, seen, strict=True)
    ]


def percentile(numbers: Sequence[float], percent: int) -> float:
    """The smallest number that so many per cent of all do not exceed."""
    return sorted(numbers)[max(0, -(-len(numbers) * percent // 100) - 1)]


def _run(contender: Contender, seen: _Seen, watched: Mapping[str, Sequence[int]]) -> None:
    if contender.prepare is not None:
        contender.prepare()
        time.sleep(SETTLE_SECONDS)
    before = _cpu_seconds(watched)
    for _ in range(contender.repeats):
        begun = time.perf_counter()
        contender.run()
        seen.runs_ms.append((time.perf_counter() - begun) * 1_000 / contender.operations)
    time.sleep(SETTLE_SECONDS)
    after = _cpu_seconds(watched)
    for whose, seconds in after.items():
        spent = seconds - before[whose]
        seen.cpu_ms[whose].append(spent * 1_000 / contender.operations / contender.repeats)


def _cpu_seconds(watched: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {"client": time.process_time()} | {whose: cpu_seconds(pids) for whose, pids in watched.items()}
