"""What an import tells: presents by month, ages by town."""

from datetime import date

from sqlalchemy import Date, Integer, cast, func, literal_column, select, true

from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.answers import MonthPresents, TownPercentiles, age_percentiles, presents_by_month
from kinfolk.modules.citizens.imports import BIRTH_DATE, Edition, NoSuchImport
from kinfolk.modules.citizens.tables import citizens, imports, ties

_IMPORT = param("import_id")
_EDITION = (imports.c.version, imports.c.created_at)
_DAY_BEFORE_THE_FIRST = literal_column("(date '0001-01-01' - 1)", Date)

# Rows by the thousand cost more on their way than all that is done with them; arrays cost a tenth. And a statement
# sees one state, so each brings the edition along.
_MONTHS = (
    select(
        func.array_agg(citizens.c.citizen_id).label("citizen_ids"),
        func.array_agg(cast(func.date_part("month", BIRTH_DATE), Integer)).label("months"),
    )
    .where(citizens.c.import_id == _IMPORT)
    .subquery("months")
)
_TIES = (
    select(func.array_agg(ties.c.low_id).label("low_ids"), func.array_agg(ties.c.high_id).label("high_ids"))
    .where(ties.c.import_id == _IMPORT)
    .subquery("both_ends")
)
BIRTH_MONTHS_AND_TIES = sql(
    select(*_EDITION, *_MONTHS.c, *_TIES.c)
    .select_from(imports.join(_MONTHS, true()).join(_TIES, true()))
    .where(imports.c.import_id == _IMPORT)
)
_TOWNS = (
    select(citizens.c.town, func.array_agg(BIRTH_DATE - _DAY_BEFORE_THE_FIRST).label("ordinals"))
    .where(citizens.c.import_id == _IMPORT)
    .group_by(citizens.c.town)
    .subquery("towns")
)
BIRTHS_OF_TOWNS = sql(
    select(*_EDITION, *_TOWNS.c).select_from(imports.outerjoin(_TOWNS, true())).where(imports.c.import_id == _IMPORT)
)


async def count_presents(conn: Connection, import_id: int) -> tuple[Edition, dict[str, list[MonthPresents]]]:
    """How many presents each citizen buys in which month, for relatives born in it; and of which edition that is.

    One statement, so it needs no snapshot. Raises NoSuchImport.
    """
    row = await BIRTH_MONTHS_AND_TIES.fetchrow(conn, import_id=import_id)
    if row is None:
        raise NoSuchImport(import_id=import_id)
    version, created_at, *arrays = row
    citizen_ids, months, low_ids, high_ids = (array or [] for array in arrays)  # of nothing there is no array
    note(citizens=len(citizen_ids), ties=len(low_ids))
    month_of = dict(zip(citizen_ids, months, strict=True))
    return Edition(version, created_at), presents_by_month(month_of, zip(low_ids, high_ids, strict=True))


async def find_percentiles(conn: Connection, import_id: int, today: date) -> tuple[Edition, list[TownPercentiles]]:
    """How old the citizens of each town are, in full years on `today`; and of which edition that is.

    One statement, so it needs no snapshot. Raises NoSuchImport.
    """
    rows = await BIRTHS_OF_TOWNS.fetch(conn, import_id=import_id)
    if not rows:
        raise NoSuchImport(import_id=import_id)
    version, created_at, *_ = rows[0]
    births = [(town, ordinals) for _, _, town, ordinals in rows if town is not None]
    note(towns=len(births))
    return Edition(version, created_at), age_percentiles(births, today)
