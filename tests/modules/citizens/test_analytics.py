"""Birthdays and percentiles through the front door, against the naive reading of the contract and numpy."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx
import numpy
import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.modules.citizens.registers import a_citizen, a_family, add

from kinfolk.kit.db import Database
from kinfolk.modules.citizens.analytics import count_presents, find_percentiles
from kinfolk.modules.citizens.answers import full_years
from kinfolk.modules.citizens.imports import NoSuchImport

HUNDREDTH = Decimal("0.01")


async def birthdays(client: httpx.AsyncClient, import_id: int) -> dict[str, list[dict[str, int]]]:
    return (await client.get(f"/imports/{import_id}/citizens/birthdays")).json()["data"]


async def ages(client: httpx.AsyncClient, import_id: int) -> list[dict[str, Any]]:
    answer = await client.get(f"/imports/{import_id}/towns/stat/percentile/age")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def at(day: date, hour: int = 0) -> time_machine.travel:
    return time_machine.travel(datetime(day.year, day.month, day.day, hour, tzinfo=UTC), tick=False)


def written(day: date) -> str:
    return f"{day.day:02}.{day.month:02}.{day.year:04}"


def by_numpy(years: list[int]) -> dict[str, float]:
    found = numpy.percentile(years, [50, 75, 99], method="linear")
    rounded = [Decimal(repr(round(float(value), 8))).quantize(HUNDREDTH, ROUND_HALF_UP) for value in found]
    return dict(zip(("p50", "p75", "p99"), map(float, rounded), strict=True))


async def test_presents_go_both_ways_and_to_oneself(client: httpx.AsyncClient) -> None:
    family = a_family(_1=[2, 3], _2=[1], _3=[1, 3], _4=[])
    for citizen, birth in zip(family, ("01.01.2000", "31.12.2000", "29.02.2000", "01.05.2000"), strict=True):
        citizen["birth_date"] = birth
    answer = await birthdays(client, await add(client, family))
    assert answer == {str(month): [] for month in range(1, 13)} | {
        "1": [{"citizen_id": 2, "presents": 1}, {"citizen_id": 3, "presents": 1}],
        "2": [{"citizen_id": 1, "presents": 1}, {"citizen_id": 3, "presents": 1}],
        "12": [{"citizen_id": 1, "presents": 1}],
    }
    assert list(answer) == [str(month) for month in range(1, 13)]


async def test_presents_follow_a_correction(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[2], _2=[1], _3=[]))
    assert (await birthdays(client, import_id))["12"] == [
        {"citizen_id": 1, "presents": 1},
        {"citizen_id": 2, "presents": 1},
    ]
    await client.patch(f"/imports/{import_id}/citizens/3", json={"relatives": [1, 2], "birth_date": "01.06.2001"})
    answer = await birthdays(client, import_id)
    assert answer["6"] == [{"citizen_id": 1, "presents": 1}, {"citizen_id": 2, "presents": 1}]
    assert answer["12"] == [{"citizen_id": number, "presents": 1 + (number == 3)} for number in (1, 2, 3)]


CITIZENS = st.lists(
    st.tuples(st.sampled_from(["Москва", "York", "york", "Ёлки", "7"]), st.dates(max_value=date(2024, 2, 28))),
    max_size=30,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(citizens=CITIZENS, kin=st.sets(st.tuples(st.integers(0, 29), st.integers(0, 29))))
async def test_answers_are_the_naive_ones(client: httpx.AsyncClient, citizens: Any, kin: set[tuple[int, int]]) -> None:
    today = date(2024, 2, 29)
    lists: dict[int, set[int]] = {number: set() for number in range(len(citizens))}
    for one, other in kin:
        if one in lists and other in lists:
            lists[one].add(other)
            lists[other].add(one)
    with at(today):
        import_id = await add(
            client,
            [
                a_citizen(number, town=town, birth_date=written(birth), relatives=list(lists[number]))
                for number, (town, birth) in enumerate(citizens)
            ],
        )
        found = await ages(client, import_id)
    years: dict[str, list[int]] = {}
    for town, birth in citizens:
        years.setdefault(town, []).append(full_years(birth, today))
    assert found == [{"town": town} | by_numpy(years[town]) for town in sorted(years)]
    presents = Counter((citizens[other][1].month, one) for one in lists for other in lists[one])
    assert await birthdays(client, import_id) == {
        str(month): [{"citizen_id": one, "presents": presents[month, one]} for one in lists if presents[month, one]]
        for month in range(1, 13)
    }


@pytest.mark.parametrize(
    ("birth", "today", "years"),
    [
        (date(2000, 5, 10), date(2020, 5, 9), 19),
        (date(2000, 5, 10), date(2020, 5, 10), 20),
        (date(2000, 5, 10), date(2020, 5, 11), 20),
        (date(2000, 2, 29), date(2023, 2, 28), 22),
        (date(2000, 2, 29), date(2023, 3, 1), 23),
        (date(2000, 2, 29), date(2024, 2, 28), 23),
        (date(2000, 2, 29), date(2024, 2, 29), 24),
        (date(2019, 12, 31), date(2020, 1, 1), 0),
        (date(1, 1, 1), date(2020, 1, 1), 2019),
        (date(1, 1, 1), date(2020, 12, 31), 2019),
        (date(1899, 3, 31), date(2020, 3, 30), 120),
    ],
)
async def test_full_years(client: httpx.AsyncClient, birth: date, today: date, years: int) -> None:
    with at(today, 23):
        import_id = await add(client, [a_citizen(1, birth_date=written(birth))])
        assert await ages(client, import_id) == [{"town": "Москва", "p50": years, "p75": years, "p99": years}]


async def test_ages_grow_at_midnight_utc(client: httpx.AsyncClient) -> None:
    import_id = await add(client, [a_citizen(1, birth_date="10.05.2000")])
    with time_machine.travel(datetime(2020, 5, 9, 23, 59, 59, 999_999, tzinfo=UTC), tick=False):
        assert (await ages(client, import_id))[0]["p50"] == 19
    with at(date(2020, 5, 10)):
        assert (await ages(client, import_id))[0]["p50"] == 20


async def test_numbers_between_two_ages(client: httpx.AsyncClient) -> None:
    """The contract's own example of rounding, and a value that binary fractions would round the wrong way."""
    today = date(2020, 1, 1)
    for years in ([10, 20, 30, 51], [0, 1], [1, 2, 3], [7] * 99 + [100], list(range(101))):
        births = [today.replace(year=2020 - age) if age else today - timedelta(1) for age in years]
        citizens = [a_citizen(number, birth_date=written(birth)) for number, birth in enumerate(births)]
        with at(today):
            assert await ages(client, await add(client, citizens)) == [{"town": "Москва"} | by_numpy(years)]


async def test_towns_are_as_they_are_written(client: httpx.AsyncClient) -> None:
    towns = ["a", "A", "á", "a ", "Б", "б", "𝐀"]
    import_id = await add(client, [a_citizen(number, town=town) for number, town in enumerate(towns)])
    assert [town["town"] for town in await ages(client, import_id)] == sorted(towns)


async def test_an_import_that_is_removed_between_its_edition_and_the_reading_is_not_there(db: Database) -> None:
    async with db.connection() as conn:
        with pytest.raises(NoSuchImport):
            await count_presents(conn, 2**62)
        with pytest.raises(NoSuchImport):
            await find_percentiles(conn, 2**62, date(2020, 1, 1))
