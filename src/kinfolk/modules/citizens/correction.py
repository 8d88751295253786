"""Correcting one citizen, and the other side of each tie with it."""

from collections.abc import Callable, Iterable, Sequence

from kinfolk.kit import audit, problems
from kinfolk.kit.db import Connection
from kinfolk.kit.events import tell_each
from kinfolk.kit.log import note
from kinfolk.kit.problems import BadPlace
from kinfolk.modules.citizens.imports import Edition, as_shown, find_edition
from kinfolk.modules.citizens.kinship import tie_changes
from kinfolk.modules.citizens.register import Citizen, Correction, InvalidCitizens
from kinfolk.modules.citizens.statements import (
    CORRECTABLE,
    CORRECTED_CITIZEN,
    KNOWN_CITIZENS,
    NEW_TIES,
    RELATIVES_OF_CITIZEN,
)

_NO_CHANGE = dict.fromkeys(CORRECTABLE)


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
    version, created_at, owner, *shown, relatives, version_seen = row
    check(Edition(version - 1, created_at))
    if version_seen != version - 1:  # while this waited, another change was made, perhaps to these ties
        relatives = await _list_relatives(conn, import_id, citizen_id)
    if correction.relatives is not None:
        changed = await _retie(conn, import_id, citizen_id, set(relatives), correction.relatives)
        await tell_of_relatives(conn, import_id, citizen_id, changed, owner)
        relatives = sorted(correction.relatives)
    fields = sorted(correction.columns) + ([] if correction.relatives is None else ["relatives"])
    await audit.note(conn, "citizen.changed", import_id=import_id, citizen_id=citizen_id, fields=fields)
    note(import_id=import_id, citizen_id=citizen_id)
    return as_shown(*shown, relatives), Edition(version, created_at)


async def tell_of_relatives(
    conn: Connection, import_id: int, citizen_id: int, relatives: Iterable[int], owner: str | None
) -> None:
    """Tell that those have changed whose ties to a citizen have, but for the citizen."""
    changed = sorted(set(relatives) - {citizen_id})
    if changed:
        whats = [{"import_id": import_id, "citizen_id": each} for each in changed]
        await tell_each(conn, "citizen.changed", whats, owner=owner)


async def _list_relatives(conn: Connection, import_id: int, citizen_id: int) -> list[int]:
    rows = await RELATIVES_OF_CITIZEN.fetch(conn, import_id=import_id, citizen_id=citizen_id)
    return [row[0] for row in rows]


async def _retie(conn: Connection, import_id: int, citizen_id: int, now: set[int], wanted: list[int]) -> set[int]:
    """Tie and untie until the citizen's relatives are those that are wanted; returns whose changed with them."""
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
    return added | ended


def _strangers(wanted: Sequence[int], unknown: set[int]) -> list[BadPlace]:
    return [
        BadPlace(f"/relatives/{place}", f"there is no citizen {relative_id} in this import")
        for place, relative_id in enumerate(wanted)
        if relative_id in unknown
    ]
