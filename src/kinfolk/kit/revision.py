"""Which revision the tables should be at and whether they are, without Alembic, which takes up 12 MB of a process."""

import importlib.util
import re
from functools import cache
from pathlib import Path

from kinfolk.kit.db import Connection

_NAMED = re.compile(r"^(revision|down_revision)\b[^=]*= *(.*)$", re.MULTILINE)
_NAME = re.compile(r"""["'](\w+)["']""")


@cache
def folder() -> Path:
    """Where the history of migrations lies."""
    found = importlib.util.find_spec("kinfolk.migrations")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


def head() -> str:
    """The newest revision of the history: the one that no other comes after."""
    named = _named()
    (newest,) = named["revision"] - named["down_revision"]
    return newest


def known() -> set[str]:
    """All revisions of the history."""
    return _named()["revision"]


@cache
def _named() -> dict[str, set[str]]:
    """Remembered: who has become another user may not be able to read it any more."""
    named: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (folder() / "versions").glob("*.py"):
        for what, names in _NAMED.findall(path.read_text(encoding="utf-8")):
            named[what].update(_NAME.findall(names))
    return named


async def revision_of(conn: Connection) -> str | None:
    """Where the tables of a database are; None where there are none."""
    if not await conn.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        return None
    found: str | None = await conn.fetchval("SELECT version_num FROM alembic_version")
    return found


async def is_current(conn: Connection) -> bool:
    """Is the database at the head of the history?"""
    return await revision_of(conn) == head()
