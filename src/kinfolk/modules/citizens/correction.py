"""Correcting one citizen, and the other side of each tie with it."""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    and_,
    any_,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.problems import BadPlace
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.imports import SHOWN_COLUMNS, Edition, as_shown, find_edition
from kinfolk.modules.citizens.kinship import tie_changes
from kinfolk.modules.citizens.register import Citizen, Correction, InvalidCitizens
from kinfolk.modules.citizens.tables import citizens, imports, ties

_IMPORT = param("import_id")
_CITIZEN = param("citizen_id")
_IDS = param("citizen_ids", ARRAY(BigInteger))
_ENDED_IDS = param("ended_ids", ARRAY(BigInteger))

_NO_CHANGE = {column.name: None for column in citizens.columns if not column.primary_key}
_THIS_CITIZEN = and_(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == _CITIZEN)
_CHANGED = {
    column: func.coalesce(param(column.name, column.type), column)
    for column in citizens.columns
    if not column.primary_key
}


def relatives_of(import_id: ColumnElement[int], citizen_id: ColumnElement[int]) -> CompoundSelect[int]:
    """Selects the ids of a citizen's relatives, ascending. Each end is looked up by itself, so by its own index."""
    as_low = select(ties.c.high_id.label("relative_id")).where(
        ties.c.import_id == import_id, ties.c.low_id == citizen_id
    )
    as_high = select(ties.c.low_id).where(
        ties.c.import_id == import_id, ties.c.high_id == citizen_id, ties.c.low_id < citizen_id
    )
    both = union_all(as_low.correlate_except(ties), as_high.correlate_except(ties))
    return both.order_by("relative_id")


_RELATIVES = relatives_of(_IMPORT, _CITIZEN)
RELATIVES_OF_CITIZEN = sql(_RELATIVES)
# Taking the row of the import makes changes to its citizens serial, and gives the new version. It is taken before the
# citizen's, for that needs its columns; and not at all where there is no such citizen.
_TAKEN = (
    update(imports)
    .where(imports.c.import_id == _IMPORT, select(citizens.c.citizen_id).where(_THIS_CITIZEN).exists())
    .values(version=imports.c.version + 1)
    .returning(imports.c.import_id, imports.c.version, imports.c.created_at)
    .cte("taken")
)
_CORRECTED = (
    update(citizens)
    .where(_THIS_CITIZEN, citizens.c.import_id == _TAKEN.c.import_id)
    .values(_CHANGED)
    .returning(_TAKEN.c.version, _TAKEN.c.created_at, *SHOWN_COLUMNS)
    .cte("corrected")
)
# The relatives and the version seen are those of the moment when the statement began, before it had to wait.
_SEEN = select(imports.c.version).where(imports.c.import_id == _IMPORT).scalar_subquery()
CORRECTED_CITIZEN = sql(
    select(_CORRECTED, func.array(_RELATIVES.scalar_subquery()), _SEEN.label("seen")).select_from(_CORRECTED)
)
KNOWN_CITIZENS = sql(
    select(citizens.c.citizen_id).where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == any_(_IDS))
)
# Each end by itself, as above.
_ENDED_AS_LOW = (
    delete(ties)
    .where(ties.c.import_id == _IMPORT, ties.c.low_id == _CITIZEN, ties.c.high_id == any_(_ENDED_IDS))
    .cte("ended_as_low")
)
_ENDED_AS_HIGH = (
    delete(ties)
    .where(
        ties.c.import_id == _IMPORT,
        ties.c.high_id == _CITIZEN,
        ties.c.low_id == any_(_ENDED_IDS),
        ties.c.low_id < _CITIZEN,
    )
    .cte("ended_as_high")
)
NEW_TIES = sql(
    insert(ties)
    .from_select(
        ["import_id", "low_id", "high_id"],
        select(
            citizens.c.import_id,
            func.least(citizens.c.citizen_id, _CITIZEN),
            func.greatest(citizens.c.citizen_id, _CITIZEN),
        ).where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == any_(_IDS)),
    )
    .returning(ties.c.low_id)
    .add_cte(_ENDED_AS_LOW, _ENDED_AS_HIGH)
)


class NoSuchCitizen(problems.NotFound):
    """There is no such citizen in this import."""


async def correct_citizen(
    conn: Connection, import_id: int, citizen_id: int, correction: Correction, check: Callable[[Edition], None]
) -> tuple[Citizen, Edition]:
    """Change a citizen, and the other side of each tie; returns the citizen as it now stands and the new edition.

    `check` sees the edition before the change and may raise. Raises NoSuchImport, NoSuchCitizen, and InvalidCitizens
    for relatives who are not in the import.
    """
    values = _NO_CHANGE | correction.columns
    row = await CORRECTED_CITIZEN.fetchrow(conn, import_id=import_id, citizen_id=citizen_id, **values)
    if row is None:
        await find_edition(conn, import_id)
        raise NoSuchCitizen(import_id=import_id, citizen_id=citizen_id)
    version, created_at, *shown, relatives, version_seen = row
    check(Edition(version - 1, created_at))
    if version_seen != version - 1:  # while this waited, another change was made, perhaps to these ties
        relatives = await _list_relatives(conn, import_id, citizen_id)
    if correction.relatives is not None:
        await _retie(conn, import_id, citizen_id, set(relatives), correction.relatives)
        relatives = sorted(correction.relatives)
    note(import_id=import_id, citizen_id=citizen_id)
    return as_shown(*shown, relatives), Edition(version, created_at)


async def _list_relatives(conn: Connection, import_id: int, citizen_id: int) -> list[int]:
    rows = await RELATIVES_OF_CITIZEN.fetch(conn, import_id=import_id, citizen_id=citizen_id)
    return [row[0] for row in rows]


async def _retie(conn: Connection, import_id: int, citizen_id: int, now: set[int], wanted: list[int]) -> None:
    """Tie and untie until the citizen's relatives are those that are wanted."""
    added, ended = tie_changes(now, set(wanted))
    if added or ended:
        rows = await NEW_TIES.fetch(
            conn, import_id=import_id, citizen_id=citizen_id, citizen_ids=sorted(added), ended_ids=sorted(ended)
        )
        if len(rows) != len(added):
            known = await KNOWN_CITIZENS.fetch(conn, import_id=import_id, citizen_ids=sorted(added))
            unknown = added - {row[0] for row in known}
            raise InvalidCitizens(_strangers(wanted, unknown))
    note(ties_added=len(added), ties_ended=len(ended))


def _strangers(wanted: Sequence[int], unknown: set[int]) -> list[BadPlace]:
    return [
        BadPlace(f"/relatives/{place}", f"there is no citizen {relative_id} in this import")
        for place, relative_id in enumerate(wanted)
        if relative_id in unknown
    ]
