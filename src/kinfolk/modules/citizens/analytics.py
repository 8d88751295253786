"""What an import tells: presents by month, ages by town."""

from datetime import date

from sqlalchemy import Date, Integer, cast, func, select

from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.answers import MonthPresents, TownPercentiles, age_percentiles, presents_by_month
from kinfolk.modules.citizens.imports import BIRTH_DATE, TIES_OF_IMPORT
from kinfolk.modules.citizens.tables import citizens

BIRTH_MONTHS_OF_IMPORT = sql(
    select(citizens.c.citizen_id, cast(func.date_part("month", BIRTH_DATE), Integer)).where(
        citizens.c.import_id == param("import_id")
    )
)
_AGE = cast(func.date_part("year", func.age(param("today", Date), BIRTH_DATE)), Integer)
AGES_OF_TOWNS = sql(
    select(citizens.c.town, _AGE.label("age"), func.count())
    .where(citizens.c.import_id == param("import_id"))
    .group_by(citizens.c.town, "age")
)


async def count_presents(conn: Connection, import_id: int) -> dict[str, list[MonthPresents]]:
    """How many presents each citizen buys in which month, for relatives born in it."""
    months = {row[0]: row[1] for row in await BIRTH_MONTHS_OF_IMPORT.fetch(conn, import_id=import_id)}
    ties = await TIES_OF_IMPORT.fetch(conn, import_id=import_id)
    note(citizens=len(months), ties=len(ties))
    return presents_by_month(months, ties)


async def find_percentiles(conn: Connection, import_id: int, today: date) -> list[TownPercentiles]:
    """How old the citizens of each town are, in full years on `today`."""
    histogram = await AGES_OF_TOWNS.fetch(conn, import_id=import_id, today=today)
    percentiles = age_percentiles(histogram)
    note(towns=len(percentiles))
    return percentiles
