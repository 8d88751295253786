"""What an import answers: how old the towns are, and who buys how many presents in which month."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from struct import unpack

from msgspec import Struct

MONTHS = range(1, 13)
DAY_ZERO = date(2000, 1, 1).toordinal()
DAY_BYTES = 4


class TownPercentiles(Struct, frozen=True, gc=False):
    """Ages in full years; half of the town is not older than `p50`."""

    town: str
    p50: float
    p75: float
    p99: float


class MonthPresents(Struct, frozen=True, gc=False):
    """How many presents a citizen buys in a month."""

    citizen_id: int
    presents: int


def full_years(birth: date, today: date) -> int:
    """The age; whoever was born on 29 February is a year older on 1 March of a common year."""
    return today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))


def age_percentiles(births: Iterable[tuple[str, bytes]], today: date) -> list[TownPercentiles]:
    """The towns in order of their names, from each town and when its citizens were born, in any order.

    Births, of which there is at least one, are packed as PostgreSQL's `date_send` packs dates, see `day`.
    """
    percentiles = []
    for town, packed in sorted(births):
        days = sorted(unpack(f">{len(packed) // DAY_BYTES}i", packed), reverse=True)  # the later born, the younger
        percentiles.append(TownPercentiles(town, *(percentile(days, percent, today) for percent in (50, 75, 99))))
    return percentiles


def day(number: int) -> date:
    """A day that PostgreSQL counts from 1 January 2000; the least of all numbers is -infinity, Python's first day."""
    return date.fromordinal(max(1, DAY_ZERO + number))


def percentile(days: Sequence[int], percent: int, today: date) -> float:
    """Of the ages of those born on these days, the youngest first, as `numpy.percentile` in its method "linear".

    Hyndman and Fan's definition 7: the value at position (n - 1) · percent / 100 counted from 0, on the straight line
    between its neighbours. Between whole ages that is a whole number of hundredths: nothing is left to round.
    """
    position, hundredths = divmod((len(days) - 1) * percent, 100)
    below = full_years(day(days[position]), today)
    above = full_years(day(days[position + 1]), today) if hundredths else below
    return (100 * below + hundredths * (above - below)) / 100


def presents_by_month(months: Mapping[int, int], ties: Iterable[tuple[int, int]]) -> dict[str, list[MonthPresents]]:
    """Who buys how many in each month, "1" to "12", in order of citizens; from birth months and ties, each tie once.

    Both sides of a tie buy for the other in the other's month of birth; whoever is tied to oneself buys once.
    """
    buyers: dict[int, list[int]] = {month: [] for month in MONTHS}
    for one, other in ties:
        buyers[months[other]].append(one)
        if one != other:
            buyers[months[one]].append(other)
    presents = {month: Counter(buying) for month, buying in buyers.items()}
    return {
        str(month): [MonthPresents(citizen_id, bought[citizen_id]) for citizen_id in sorted(bought)]
        for month, bought in presents.items()
    }
