"""Correcting citizens whose ties stay: all corrections that wait, of whatever imports, in one statement."""

from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from msgspec import Struct
from sqlalchemy import BigInteger, Boolean, ColumnElement, any_, column, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.visitors import replacement_traverse

from kinfolk.kit.db import Connection, Database
from kinfolk.kit.gathering import Gathering
from kinfolk.kit.log import note
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.correction import relatives_of
from kinfolk.modules.citizens.imports import SHOWN_COLUMNS, Edition, as_shown
from kinfolk.modules.citizens.register import Citizen
from kinfolk.modules.citizens.tables import citizens, imports

MOST_TOGETHER = 64

_FIELDS = [field for field in citizens.columns if not field.primary_key]
_IMPORTS = param("import_ids", ARRAY(BigInteger))
_CITIZENS = param("citizen_ids", ARRAY(BigInteger))
_ASKED = select(
    func.unnest(
        _IMPORTS,
        _CITIZENS,
        param("are_last", ARRAY(Boolean)),
        *(param(each.name, ARRAY(each.type)) for each in _FIELDS),
    )
    .table_valued(
        column("import_id", BigInteger),
        column("citizen_id", BigInteger),
        column("is_last", Boolean),
        *(column(each.name, each.type) for each in _FIELDS),
        with_ordinality="place",
        name="asked",
    )
    .render_derived()
).cte("asked")
# Nobody waits here: an import that somebody is changing, or has changed since this statement began, is left out, for
# its relatives would be those of before.
_SEEN = imports.alias("seen")
_FREE = select(imports).where(imports.c.import_id == any_(_IMPORTS)).with_for_update(skip_locked=True).cte("free")
_TAKEN = (
    select(_FREE)
    .where(_FREE.c.version == select(_SEEN.c.version).where(_SEEN.c.import_id == _FREE.c.import_id).scalar_subquery())
    .cte("taken")
)
# By index whatever the statistics say: the planner thinks that hardly anybody passes a comparison with a subquery.
_CORRECTED = (
    update(citizens)
    .where(
        citizens.c.import_id == _ASKED.c.import_id,
        citizens.c.citizen_id == _ASKED.c.citizen_id,
        citizens.c.import_id == _TAKEN.c.import_id,
        _ASKED.c.is_last,
    )
    .values({field: func.coalesce(_ASKED.c[field.name], field) for field in _FIELDS})
    .returning(citizens, _TAKEN.c.version, _TAKEN.c.created_at)
    .cte("corrected")
)


def _as_corrected(element: Any, **_options: Any) -> ColumnElement[Any] | None:
    """A citizen's column as one correction left it; those of one citizen that go together change the same columns."""
    if getattr(element, "table", None) is not citizens:
        return None
    return func.coalesce(_ASKED.c[element.name], _CORRECTED.c[element.name])


_SHOWN = [
    replacement_traverse(each, {}, _as_corrected).label(f"shown_{place}") for place, each in enumerate(SHOWN_COLUMNS)
]
_ANSWERED = (
    select(
        _ASKED.c.place,
        _ASKED.c.import_id,
        (_CORRECTED.c.version + func.row_number().over(partition_by=_ASKED.c.import_id, order_by=_ASKED.c.place)).label(
            "version"
        ),
        _CORRECTED.c.created_at,
        *_SHOWN,
    )
    .where(_ASKED.c.import_id == _CORRECTED.c.import_id, _ASKED.c.citizen_id == _CORRECTED.c.citizen_id)
    .cte("answered")
)
_NEWEST = (
    select(_ANSWERED.c.import_id, func.max(_ANSWERED.c.version).label("version"))
    .group_by(_ANSWERED.c.import_id)
    .subquery("newest")
)
_RAISED = (
    update(imports).where(imports.c.import_id == _NEWEST.c.import_id).values(version=_NEWEST.c.version).cte("raised")
)
CORRECTED_CITIZENS = sql(
    select(
        _ANSWERED.c.place,
        _ANSWERED.c.version,
        _ANSWERED.c.created_at,
        *(_ANSWERED.c[each.name] for each in _SHOWN),
        func.array(relatives_of(_ANSWERED.c.import_id, _ANSWERED.c[_SHOWN[0].name]).scalar_subquery()),
    ).add_cte(_RAISED)
)
HELD_IMPORT = sql(select(imports.c.import_id).where(imports.c.import_id == param("import_id")).with_for_update())


class PlainCorrection(Struct, frozen=True):
    """New values of columns of a citizen's own row."""

    import_id: int
    citizen_id: int
    columns: dict[str, str | int | date]


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
    rows = await CORRECTED_CITIZENS.fetch(
        conn,
        import_ids=[each.import_id for each in tried],
        citizen_ids=[each.citizen_id for each in tried],
        are_last=[last[each.import_id, each.citizen_id] is each for each in tried],
        **{field.name: [each.columns.get(field.name) for each in tried] for field in _FIELDS},
    )
    answers: list[Corrected | None] = [None] * len(corrections)
    for place, version, created_at, *shown in rows:
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
