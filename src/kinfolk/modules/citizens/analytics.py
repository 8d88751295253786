"""What an import tells: presents by month, ages by town."""

from datetime import date

from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.modules.citizens.answers import MonthPresents, TownPercentiles, age_percentiles, presents_by_month
from kinfolk.modules.citizens.imports import Edition, NoSuchImport
from kinfolk.modules.citizens.statements import BIRTH_MONTHS_AND_TIES, BIRTHS_OF_TOWNS


async def count_presents(conn: Connection, import_id: int) -> tuple[Edition, dict[str, list[MonthPresents]]]:
    """How many presents each citizen buys in which month, for relatives born in it; and of which edition that is.

    One statement, so it needs no snapshot. Raises NoSuchImport.
    """
    row = await BIRTH_MONTHS_AND_TIES.fetchrow_or(conn, NoSuchImport(import_id=import_id), import_id=import_id)
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
    births = [(town, packed) for _, _, town, packed in rows if town is not None]
    note(towns=len(births))
    return Edition(version, created_at), age_percentiles(births, today)
