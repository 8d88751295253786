"""A figure beside its limit, and the bar that it must not miss."""

from typing import Literal

import msgspec

Unit = Literal["ms", "/s", "MB", "µs"]


class Bar(msgspec.Struct, frozen=True):
    """So many `times` the limit at most; or a figure in the row's unit: at `most`, or at `least`."""

    kind: Literal["times", "most", "least"]
    value: float


class Row(msgspec.Struct):
    """One line of the table."""

    operation: str
    unit: Unit
    measured: float
    p95: float | None
    """The p95 of times; of a rate, what 95 of 100 rounds reached."""
    beside: str
    limit: float | None
    """What `beside` took, in the same unit."""
    bar: Bar | None = None
    times: float | None = None
    """How many times as long as the limit this takes, or as much memory."""
    used: float | None = None
    """Which part of what the bar allows: 1 and less is met."""

    def __post_init__(self) -> None:
        if self.limit is not None:
            self.times = _ratio(self.measured, self.limit, self.unit)
        if self.bar is not None and self.bar.kind == "times":
            assert self.times is not None, "a bar of times needs a limit"
            self.used = self.times / self.bar.value
        elif self.bar is not None:
            self.used = _ratio(self.measured, self.bar.value, self.unit)

    @property
    def is_met(self) -> bool:
        return self.used is not None and self.used <= 1


def _ratio(measured: float, limit: float, unit: Unit) -> float:
    return limit / measured if unit == "/s" else measured / limit
