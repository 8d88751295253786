"""What a check gives, and what it is given."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from kinfolk.kit.lanes import Lane
from kinfolk.kit.settings import ClientSettings, ServingSettings


class Finding(NamedTuple):
    """`wrong` keeps something from working, `look` may be meant so; then `mend` says what to do."""

    verdict: Literal["ok", "wrong", "look"]
    what: str
    mend: str = ""

    def line(self) -> str:
        return f"{self.verdict:5}  {self.what}" + (f": {self.mend}" if self.mend else "")


@dataclass(frozen=True, kw_only=True)
class Place:
    """An installation: the settings of its service, how it is asked, and what modules take from RabbitMQ."""

    settings: ServingSettings = field(default_factory=ServingSettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each setting came from that is not its default."""
    lanes: Sequence[Lane] = ()


Findings: TypeAlias = AsyncIterator[Finding]
Check: TypeAlias = Callable[[Place], Findings]
"""Looks and changes nothing; its name says at what."""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def wrong(what: str, mend: str) -> Finding:
    return Finding("wrong", what, mend)


def look(what: str, mend: str) -> Finding:
    return Finding("look", what, mend)
