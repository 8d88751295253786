"""Statements without what they are written with: a child compiles them, and a role takes their text.

SQLAlchemy would take up 16 MB of each role, which needs of it what a hundred statements say. It is loaded at each start
by a child that ends, so that no text can be of another day than its source.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TypeAlias

from kinfolk.kit.module import Module
from kinfolk.kit.statement import Statement

Compiled: TypeAlias = Mapping[str, Mapping[str, Statement | tuple[str, ...]]]


def compiled(modules: Sequence[Module]) -> Compiled:
    """What operations need of each `statements.py`, the kit's own and those of the modules; to be called in a child."""
    places = ["kinfolk.kit.statements", *(module.statements for module in modules if module.statements is not None)]
    return {
        place: {name: value for name, value in vars(import_module(place)).items() if _is_needed(value)}
        for place in places
    }


def _is_needed(value: object) -> bool:
    """Statements, and names of columns."""
    return isinstance(value, Statement) or (
        isinstance(value, tuple) and all(isinstance(member, str) for member in value)
    )


def stand_in(texts: Compiled) -> None:
    """From now on, whoever imports one of these files finds what was compiled of it, and loads nothing."""
    for place, found in texts.items():
        module = ModuleType(place, "What a child has compiled, see kinfolk/kit/compiled.py.")
        vars(module).update(found)
        sys.modules[place] = module
