"""What processes cost: CPU time to the nanosecond and memory, as the Linux kernel counts them."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_IN_KB = 1_024
_MEGABYTE = 1_000_000


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of processes so far, all threads; one that has ended counts nothing."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # clock_getcpuclockid(3) without the call: the kernel's CPUCLOCK_SCHED of a process
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def pss_megabytes(pids: Iterable[int]) -> float:
    """Memory of processes, each page counted once among those that share it."""
    return sum(_field(pid, "smaps_rollup", "Pss") for pid in pids) / _MEGABYTE


class Memory:
    """Of all processes of a role: at rest, and the most that was added since; costs them nothing, unlike sampling."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at_rest = {pid: _field(pid, "status", "VmRSS") for pid in family(pid)}
        self.rest_megabytes = pss_megabytes(self._at_rest)

    def forget_peak(self) -> None:
        for pid in family(self._pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_megabytes(self) -> float:
        """At rest, plus what each process grew by at its own peak: all that is added belongs to it alone."""
        grown = [_field(pid, "status", "VmHWM") - self._at_rest.get(pid, 0) for pid in family(self._pid)]
        return self.rest_megabytes + sum(max(0, growth) for growth in grown) / _MEGABYTE


def _field(pid: int, file: str, name: str) -> int:
    """A value in bytes of a file under /proc/PID; 0 once the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * _IN_KB
    return 0
