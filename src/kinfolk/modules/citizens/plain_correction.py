"""Correcting citizens whose ties stay: all corrections that wait, of whatever imports, in one statement."""

from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import TypeAlias
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from kinfolk.kit import audit
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.gathering import Gathering
from kinfolk.kit.log import note
from kinfolk.modules.citizens.imports import Edition, as_shown
from kinfolk.modules.citizens.register import Citizen
from kinfolk.modules.citizens.statements import CORRECTABLE, CORRECTED_AND_NOTED, CORRECTED_CITIZENS, HELD_IMPORT

MOST_TOGETHER = 64


class PlainCorrection(Struct, frozen=True):
    """New values of columns of a citizen's own row."""

    import_id: int
    citizen_id: int
    columns: dict[str, str | int | date]
    noted: audit.Entry | None = None


Corrected: TypeAlias = tuple[Citizen, Edition]
_Rounds: TypeAlias = Gathering[PlainCorrection, Corrected | None]


async def correct_citizens(conn: Connection, corrections: Sequence[PlainCorrection]) -> list[Corrected | None]:
    """Make those corrections that can be made at once, as if one came after another in this order.

    Each answer is the citizen as its own correction left it, and the edition that it made. None is for what was not
    done: the import is held or unknown, so is the citizen, or somebody before corrects other columns of the same one.
    As a statement by itself it is serial; in a transaction only where that holds the imports before.
    """
    last: dict[tuple[int, int], PlainCorrection] = {}
    places, tried = [], []
    for place, each in enumerate(corrections):
        citizen = (each.import_id, each.citizen_id)
        if last.get(citizen, each).columns.keys() == each.columns.keys():
            last[citizen] = each
            places.append(place)
            tried.append(each)
    entries = [each.noted for each in tried]
    is_noted = any(entries)
    rows = await (CORRECTED_AND_NOTED if is_noted else CORRECTED_CITIZENS).fetch(
        conn,
        import_ids=[each.import_id for each in tried],
        citizen_ids=[each.citizen_id for each in tried],
        are_last=[last[each.import_id, each.citizen_id] is each for each in tried],
        **{name: [each.columns.get(name) for each in tried] for name in CORRECTABLE},
        **(audit.origins(entries) if is_noted else {}),
    )
    answers: list[Corrected | None] = [None] * len(corrections)
    for place, version, created_at, *shown, _told in rows:
        answers[places[place - 1]] = as_shown(*shown), Edition(version, created_at)
    return answers


class Corrections:
    """The plain corrections of this process: those of free imports go together, those of a held one wait together."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._of_free = Gathering(self._at_once, most=MOST_TOGETHER)
        self._of_held: WeakValueDictionary[int, _Rounds] = WeakValueDictionary()  # each as long as somebody asks it

    async def make(self, correction: PlainCorrection) -> Corrected | None:
        """The citizen as it then stood, and the edition. None where only `correct_citizen` can do it, or say why not.

        In its own transaction, and committed when this returns. Raises DatabaseAway, and then it may still be done.
        """
        import_id = correction.import_id
        note(import_id=import_id, citizen_id=correction.citizen_id)
        noted = audit.entry(
            "citizen.changed",
            import_id=import_id,
            citizen_id=correction.citizen_id,
            fields=sorted(correction.columns),
        )
        if noted is not None:
            correction = replace(correction, noted=noted)
        held = self._of_held.get(import_id)
        if held is None:
            if corrected := await self._of_free.ask(correction):
                return corrected
            held = self._of_held.setdefault(import_id, Gathering(self._in_turn, most=MOST_TOGETHER))
        return await held.ask(correction)

    async def _at_once(self, corrections: list[PlainCorrection]) -> list[Corrected | None]:
        note(together=len(corrections))
        async with self._db.connection() as conn:
            return await correct_citizens(conn, corrections)

    async def _in_turn(self, corrections: list[PlainCorrection]) -> list[Corrected | None]:
        """All of one import: wait until nobody else changes it."""
        note(together=len(corrections))
        async with self._db.transaction() as conn:
            await HELD_IMPORT.execute(conn, import_id=corrections[0].import_id)
            return await correct_citizens(conn, corrections)


@cache
def corrections_in(db: Database) -> Corrections:
    """Those of this process in one database."""
    return Corrections(db)
