"""The face that a module shows to the product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Module:
    """One domain. It names what it has as `package.module:name`: a command loads what it needs, and no more."""

    name: str
    description: str
    routes: str | Sequence[Any] = ()
    """Where the list of its routes is, or the list."""
    jobs: str | Sequence[Any] = ()
    """Where the list of its jobs is, or the list; so with the next two."""
    ticks: str | Sequence[Any] = ()
    """What the clock owes."""
    lanes: str | Sequence[Any] = ()
    """The messages that it takes."""
    tables: str | None = None
    """The Python module that defines its tables."""
    statements: str | None = None
    """The Python module that has its statements: nothing else that a role loads imports SQLAlchemy."""
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
        return _found(self.ticks)

    def load_lanes(self) -> Sequence[Any]:
        return _found(self.lanes)

    def load_renewals(self) -> Sequence[Any]:
        return _found(self.renewals)

    def load_tables(self) -> None:
        """Let its tables register themselves in the metadata."""
        if self.tables is not None:
            import_module(self.tables)


def modules(*packages: str) -> tuple[Module, ...]:
    """The faces that these packages show."""
    return tuple(resolve_name(f"{package}:MODULE") for package in packages)


def _found(place: str | Sequence[Any]) -> Sequence[Any]:
    found: Sequence[Any] = resolve_name(place) if isinstance(place, str) else place
    return found
