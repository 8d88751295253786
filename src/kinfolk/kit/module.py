"""The face that a module shows to the product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Module:
    """One domain: its routes, its tables (by importing them) and its words on the command line."""

    name: str
    description: str
    routes: Sequence[Any] = ()
    is_at_root: bool = False
    """Served without `/api/v1` too, for clients that came before it."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Words of `kinfolk`: each names the function that Cyclopts runs, as `package.module:function`."""
