import struct
import time
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinfolk.modules.citizens.answers import (
    MonthPresents,
    TownPercentiles,
    age_percentiles,
    full_years,
    presents_by_month,
)


def by_numpy(ages: list[int], percent: int) -> float:
    exact = Decimal(repr(float(numpy.percentile(ages, percent, method="linear"))))
    return float(exact.quantize(Decimal("1.0000000000")).quantize(Decimal("0.01"), ROUND_HALF_UP))


TODAY = date(2024, 2, 29)
BIRTHS = st.lists(st.dates(max_value=TODAY - timedelta(1)), min_size=1, max_size=250)


def packed(births: list[date]) -> bytes:
    """As PostgreSQL's date_send packs dates, asyncpg having sent the first of all days as -infinity."""
    days = [-(2**31) if birth == date.min else (birth - date(2000, 1, 1)).days for birth in births]
    return b"".join(struct.pack(">i", number) for number in days)


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=3), BIRTHS), st.dates(TODAY, date(2028, 3, 1)))
def test_percentiles_are_those_of_numpy(towns: dict[str, list[date]], today: date) -> None:
    ages = {town: [full_years(birth, today) for birth in births] for town, births in towns.items()}
    births_by_town = [(town, packed(births)) for town, births in towns.items()]
    assert age_percentiles(births_by_town, today) == [
        TownPercentiles(town, *(by_numpy(ages[town], percent) for percent in (50, 75, 99))) for town in sorted(towns)
    ]


def test_percentiles_by_hand() -> None:
    def aged(*years: int) -> bytes:
        return packed([TODAY.replace(year=TODAY.year - age, day=1) for age in years])

    assert age_percentiles([], TODAY) == []
    assert age_percentiles([("B", aged(7)), ("A", aged(30, 10, 10, 10))], TODAY) == [
        TownPercentiles("A", 10.0, 15.0, 29.4),
        TownPercentiles("B", 7.0, 7.0, 7.0),
    ]
    assert age_percentiles([("A", packed([date.min, TODAY]))], TODAY) == [
        TownPercentiles("A", 1011.5, 1517.25, 2002.77)
    ]


@pytest.mark.parametrize(
    ("birth", "today", "years"),
    [
        (date(2000, 5, 10), date(2020, 5, 9), 19),
        (date(2000, 5, 10), date(2020, 5, 10), 20),
        (date(2000, 2, 29), date(2023, 2, 28), 22),
        (date(2000, 2, 29), date(2023, 3, 1), 23),
        (date(2000, 2, 29), date(2024, 2, 29), 24),
        (date(2019, 12, 31), date(2020, 1, 1), 0),
    ],
)
def test_full_years(birth: date, today: date, years: int) -> None:
    assert full_years(birth, today) == years


@given(st.dates(), st.integers(0, 40_000))
def test_full_years_count_birthdays(birth: date, days: int) -> None:
    today = birth + timedelta(min(days, (date.max - birth).days))
    birthdays = ((year, birth.month, birth.day) for year in range(birth.year + 1, today.year + 1))
    assert full_years(birth, today) == sum(day <= (today.year, today.month, today.day) for day in birthdays)


def test_presents_by_hand() -> None:
    presents = presents_by_month({1: 3, 2: 3, 3: 12}, [(1, 2), (1, 3), (2, 3), (3, 3)])
    assert list(presents) == [str(month) for month in range(1, 13)]
    assert presents["3"] == [MonthPresents(1, 1), MonthPresents(2, 1), MonthPresents(3, 2)]
    assert presents["12"] == [MonthPresents(1, 1), MonthPresents(2, 1), MonthPresents(3, 1)]
    assert not any(presents[str(month)] for month in (1, 2, *range(4, 12)))


IDS = st.integers(0, 6)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({citizen_id: st.integers(1, 12) for citizen_id in range(7)}),
    st.sets(st.tuples(IDS, IDS).map(lambda pair: (min(pair), max(pair)))),
)
def test_presents_are_one_for_each_listed_relative(months: dict[int, int], ties: set[tuple[int, int]]) -> None:
    directed = ties | {(high, low) for low, high in ties}
    expected = {
        str(month): [
            MonthPresents(buyer, bought)
            for buyer in range(7)
            if (bought := sum(one == buyer and months[other] == month for one, other in directed))
        ]
        for month in range(1, 13)
    }
    assert presents_by_month(months, ties) == expected


def test_answers_of_ten_thousand_citizens_take_a_fraction_of_a_second() -> None:
    months = {citizen_id: citizen_id % 12 + 1 for citizen_id in range(10_000)}
    ties = [(low, (low * 7 + step) % 10_000) for low in range(10_000) for step in (1, 2)]
    start = time.process_time()
    presents = presents_by_month(months, ties)
    age_percentiles([("Town", packed([date.fromordinal(1 + 7 * number) for number in range(10_000)]))], TODAY)
    assert time.process_time() - start < 10
    assert sum(each.presents for buying in presents.values() for each in buying) == 40_000 - sum(
        a == b for a, b in ties
    )
