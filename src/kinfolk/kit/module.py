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
    tables: str | None = None
    """The Python module that defines its tables."""
    is_at_root: bool = False
    """Served without `/api/v1` too, for clients that came before it."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Words of `kinfolk`: each names the function that Cyclopts runs."""

    def handlers(self) -> Sequence[Any]:
        """Its routes, loaded."""
        routes: Sequence[Any] = resolve_name(self.routes) if isinstance(self.routes, str) else self.routes
        return routes

    def load_tables(self) -> None:
        """Let its tables register themselves in the metadata."""
        if self.tables is not None:
            import_module(self.tables)
