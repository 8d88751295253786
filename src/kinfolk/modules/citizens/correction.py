"""Correcting one citizen, and the other side of each tie with it."""

from collections.abc import Callable, Sequence

from sqlalchemy import BigInteger, and_, any_, case, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.problems import BadPlace
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.imports import SHOWN_COLUMNS, Edition, NoSuchImport, as_shown
from kinfolk.modules.citizens.kinship import tie_changes
from kinfolk.modules.citizens.register import Citizen, Correction, InvalidCitizens
from kinfolk.modules.citizens.tables import citizens, imports, ties

_IMPORT = param("import_id")
_CITIZEN = param("citizen_id")
_IDS = param("citizen_ids", ARRAY(BigInteger))

_NO_CHANGE = {column.name: None for column in citizens.columns if not column.primary_key}

# Taking the row of the import makes changes to its citizens serial, and is the 404 check and the new version too.
TAKEN_IMPORT = sql(
    update(imports)
    .where(imports.c.import_id == _IMPORT)
    .values(version=imports.c.version + 1)
    .returning(imports.c.version, imports.c.created_at)
)
CORRECTED_CITIZEN = sql(
    update(citizens)
    .where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == _CITIZEN)
    .values(
        {
            column: func.coalesce(param(column.name, column.type), column)
            for column in citizens.columns
            if not column.primary_key
        }
    )
    .returning(*SHOWN_COLUMNS)
)
RELATIVES_OF_CITIZEN = sql(
    select(case((ties.c.low_id == _CITIZEN, ties.c.high_id), else_=ties.c.low_id).label("relative_id"))
    .where(ties.c.import_id == _IMPORT, or_(ties.c.low_id == _CITIZEN, ties.c.high_id == _CITIZEN))
    .order_by(literal_column("relative_id"))
)
KNOWN_CITIZENS = sql(
    select(citizens.c.citizen_id).where(citizens.c.import_id == _IMPORT, citizens.c.citizen_id == any_(_IDS))
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
)
ENDED_TIES = sql(
    delete(ties).where(
        ties.c.import_id == _IMPORT,
        or_(
            and_(ties.c.low_id == _CITIZEN, ties.c.high_id == any_(_IDS)),
            and_(ties.c.high_id == _CITIZEN, ties.c.low_id == any_(_IDS)),
        ),
    )
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
    taken = await TAKEN_IMPORT.fetchrow(conn, import_id=import_id)
    if taken is None:
        raise NoSuchImport(import_id=import_id)
    edition = Edition(*taken)
    row = await CORRECTED_CITIZEN.fetchrow(
        conn, import_id=import_id, citizen_id=citizen_id, **_NO_CHANGE | correction.columns
    )
    if row is None:
        raise NoSuchCitizen(import_id=import_id, citizen_id=citizen_id)
    check(Edition(edition.version - 1, edition.created_at))
    relatives = await _list_relatives(conn, import_id, citizen_id)
    if correction.relatives is not None:
        await _retie(conn, import_id, citizen_id, set(relatives), correction.relatives)
        relatives = sorted(correction.relatives)
    note(import_id=import_id, citizen_id=citizen_id)
    return as_shown(*row, relatives), edition


async def _list_relatives(conn: Connection, import_id: int, citizen_id: int) -> list[int]:
    rows = await RELATIVES_OF_CITIZEN.fetch(conn, import_id=import_id, citizen_id=citizen_id)
    return [row[0] for row in rows]


async def _retie(conn: Connection, import_id: int, citizen_id: int, now: set[int], wanted: list[int]) -> None:
    """Tie and untie until the citizen's relatives are those that are wanted."""
    added, ended = tie_changes(now, set(wanted))
    if added:
        rows = await NEW_TIES.fetch(conn, import_id=import_id, citizen_id=citizen_id, citizen_ids=sorted(added))
        if len(rows) != len(added):
            known = await KNOWN_CITIZENS.fetch(conn, import_id=import_id, citizen_ids=sorted(added))
            unknown = added - {row[0] for row in known}
            raise InvalidCitizens(_strangers(wanted, unknown))
    if ended:
        await ENDED_TIES.execute(conn, import_id=import_id, citizen_id=citizen_id, citizen_ids=sorted(ended))
    note(ties_added=len(added), ties_ended=len(ended))


def _strangers(wanted: Sequence[int], unknown: set[int]) -> list[BadPlace]:
    return [
        BadPlace(f"/relatives/{place}", f"there is no citizen {relative_id} in this import")
        for place, relative_id in enumerate(wanted)
        if relative_id in unknown
    ]
