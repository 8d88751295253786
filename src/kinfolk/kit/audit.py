"""The audit log: who did what to whom and when, noted in the transaction that does it.

    await audit.note(conn, "citizen.removed", import_id=1, citizen_id=7)

Who, for which request and from which address come from the work at hand. Ids only: no name, no password, no token.
Where nobody is asked who they are, nothing is noted, unless the caller says who it was.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from kinfolk.kit import log
from kinfolk.kit.db import Connection
from kinfolk.kit.statements import (
    DEEDS_NOTED,
    NOTED_COLUMNS,
    NOTED_OF_CITIZEN,
    NOTED_PAGE,
    NOTED_PAGE_OF_IMPORT,
    ORIGIN_COLUMNS,
)

STRANGER = "stranger"
"""Who it was where it was nobody we know, as at a login that failed."""

Fact: TypeAlias = bool | int | str | list[str]


class Entry(Struct, frozen=True):
    """One deed, before it is written."""

    deed: str
    by: str
    request_id: str | None
    address: str | None
    import_id: int | None
    citizen_id: int | None
    facts: str | None
    """As JSON."""


class Noted(Struct, frozen=True):
    """A deed, as it was noted."""

    number: int | None
    """Its place in the chain; none in the second before it has one."""
    happened_at: datetime
    deed: str
    by: str
    request_id: str | None
    address: str | None
    import_id: int | None
    citizen_id: int | None
    facts: dict[str, Fact] | None
    previous_hash: str | None
    hash: str | None


def entry(
    deed: str,
    *,
    by: str | None = None,
    import_id: int | None = None,
    citizen_id: int | None = None,
    **facts: Fact | None,
) -> Entry | None:
    """A deed of the work at hand, to be written by `keep`; None where nobody is asked who they are.

    `by` says who it was where the work at hand does not know. `facts` are more numbers, and words of ours.
    """
    origin = log.origin()
    who = by or origin.by
    if who is None:
        return None
    known = {name: fact for name, fact in facts.items() if fact is not None}
    written = msgspec.json.encode(known).decode() if known else None
    return Entry(deed, who, origin.request_id, origin.address, import_id, citizen_id, written)


async def keep(conn: Connection, entries: Sequence[Entry | None]) -> None:
    """Write deeds, in the transaction of `conn`, in this order."""
    if written := [each for each in entries if each is not None]:
        columns = {f"audit_{name}": [getattr(each, name) for each in written] for name in NOTED_COLUMNS}
        await DEEDS_NOTED.execute(conn, **columns)


async def note(
    conn: Connection,
    deed: str,
    *,
    by: str | None = None,
    import_id: int | None = None,
    citizen_id: int | None = None,
    **facts: Fact | None,
) -> None:
    """Note a deed in the transaction of `conn`, with which it comes and goes; the arguments are those of `entry`."""
    await keep(conn, [entry(deed, by=by, import_id=import_id, citizen_id=citizen_id, **facts)])


async def keep_each(conn: Connection, entries: list[Entry]) -> list[None]:
    """`keep`, for those who ask together (`Database.gathered_change`)."""
    await keep(conn, entries)
    return [None] * len(entries)


def origins(entries: Sequence[Entry | None]) -> Mapping[str, list[str | None]]:
    """The parameters of `noting`, by which a statement notes what it does to many."""
    return {f"audit_{name}": [getattr(each, name, None) for each in entries] for name in ORIGIN_COLUMNS}


async def list_noted(
    conn: Connection,
    *,
    deed: str | None = None,
    by: str | None = None,
    import_id: int | None = None,
    citizen_id: int | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Noted]:
    """Deeds by number, those above `after` that have one; a citizen is one of an import."""
    asked = {"deed": deed, "by": by, "after": after, "limit": limit}
    if import_id is None:
        return [_noted(row) for row in await NOTED_PAGE.fetch(conn, **asked)]
    of_import = await NOTED_PAGE_OF_IMPORT.fetch(conn, **asked, import_id=import_id, citizen_id=citizen_id)
    return [_noted(row) for row in of_import]


async def list_about_citizen(conn: Connection, import_id: int, citizen_id: int) -> list[Noted]:
    """What was done to a citizen, or to the whole import, as it was noted."""
    return [_noted(row) for row in await NOTED_OF_CITIZEN.fetch(conn, import_id=import_id, citizen_id=citizen_id)]


def _noted(row: Any) -> Noted:
    *before, facts, previous_hash, own_hash = row
    values: list[Any] = [*before, None if facts is None else msgspec.json.decode(facts), previous_hash, own_hash]
    return Noted(*values)
