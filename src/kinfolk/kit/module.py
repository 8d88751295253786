"""The face that a module shows to the product.

A module is a package, and what it has is found by the names of its files:

    api.py         ROUTES
    tables.py      its tables
    statements.py  its statements: nothing else that a role loads imports SQLAlchemy
    jobs.py        JOBS, and TICKS where the clock owes some
    messages.py    LANES, the messages that it takes
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules, resolve_name
from typing import Any

_PLACES = {
    "routes": "api:ROUTES",
    "tables": "tables",
    "statements": "statements",
    "jobs": "jobs:JOBS",
    "ticks": "jobs:TICKS",
    "lanes": "messages:LANES",
}


@dataclass(frozen=True, kw_only=True)
class Module:
    """One domain. What it has is named as `package.file:NAME`: a command loads what it needs, and no more."""

    name: str
    description: str
    routes: str | Sequence[Any] = ()
    """Where the list of its routes is, or the list."""
    jobs: str | Sequence[Any] = ()
    """So with jobs, and with the next two."""
    ticks: str | Sequence[Any] = ()
    lanes: str | Sequence[Any] = ()
    tables: str | None = None
    statements: str | None = None
    renewals: str | Sequence[Any] = ()
    """Statements without parameters, done in a restored database before anybody sees it: what was told under an entity
    tag of these tables must not come back under the same tag."""
    distributed_by: Mapping[str, str] = field(default_factory=dict)
    """Tables that a cluster spreads over its machines, and the column that leads each of their keys."""
    is_at_root: bool = False
    """Served without `/api/v1` too, for clients that came before it."""
    slash_below: Sequence[str] = ()
    """Paths that may have one slash too many at the end, and so may what is below them; for such clients, too."""
    has_v1_0: bool = False
    """Served under `/api/v1.0`, too, as some clients write it."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Words of `kinfolk`: each names the function that Cyclopts runs."""

    def handlers(self) -> Sequence[Any]:
        """Its routes, loaded."""
        return _found(self.routes)

    def load_jobs(self) -> Sequence[Any]:
        return _found(self.jobs)

    def load_ticks(self) -> Sequence[Any]:
        """None where its jobs have no ticks."""
        if not isinstance(self.ticks, str):
            return self.ticks
        file, _, name = self.ticks.partition(":")
        ticks: Sequence[Any] = getattr(import_module(file), name, ())
        return ticks

    def load_lanes(self) -> Sequence[Any]:
        return _found(self.lanes)

    def load_renewals(self) -> Sequence[Any]:
        return _found(self.renewals)

    def load_tables(self) -> None:
        """Let its tables register themselves in the metadata."""
        if self.tables is not None:
            import_module(self.tables)


def module(package: str, **own: Any) -> Module:
    """A module that has what is in its files, which are not loaded; `own` is what else there is to say of it."""
    files = {file.name for file in iter_modules(sys.modules[package].__path__)}
    found: dict[str, Any] = {
        what: f"{package}.{place}" for what, place in _PLACES.items() if place.partition(":")[0] in files
    }
    return Module(name=package.rpartition(".")[2], **found, **own)


def modules(*packages: str) -> tuple[Module, ...]:
    """The faces that these packages show."""
    return tuple(resolve_name(f"{package}:MODULE") for package in packages)


def _found(place: str | Sequence[Any]) -> Sequence[Any]:
    found: Sequence[Any] = resolve_name(place) if isinstance(place, str) else place
    return found
