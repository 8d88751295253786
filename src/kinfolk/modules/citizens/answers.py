"""What an import answers: how old the towns are, and who buys how many presents in which month."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from msgspec import Struct

MONTHS = range(1, 13)


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


def age_percentiles(histogram: Iterable[tuple[str, int, int]]) -> list[TownPercentiles]:
    """The towns in order of their names, from rows (town, age in full years, how many of that age; at least one)."""
    ages_of: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for town, age, how_many in histogram:
        ages_of[town][age] += how_many
    return [
        TownPercentiles(town, percentile(ages, 50), percentile(ages, 75), percentile(ages, 99))
        for town, ages in sorted((town, sorted(counts.items())) for town, counts in ages_of.items())
    ]


def percentile(ages: list[tuple[int, int]], percent: int) -> float:
    """Of ages in ascending order, each with how many have it, as `numpy.percentile` in its method "linear".

    Hyndman and Fan's definition 7: the value at position (n - 1) · percent / 100 counted from 0, on the straight line
    between its neighbours. Between whole ages that is a whole number of hundredths: nothing is left to round.
    """
    position, hundredths = divmod((sum(how_many for _, how_many in ages) - 1) * percent, 100)
    below = age_at(ages, position)
    above = age_at(ages, position + 1) if hundredths else below
    return (100 * below + hundredths * (above - below)) / 100


def age_at(ages: list[tuple[int, int]], position: int) -> int:
    """The age of the citizen at a position, counted from 0, who stands in order of age."""
    for age, how_many in ages:
        position -= how_many
        if position < 0:
            return age
    raise IndexError("nobody stands there")


def presents_by_month(months: Mapping[int, int], ties: Iterable[tuple[int, int]]) -> dict[str, list[MonthPresents]]:
    """Who buys how many in each month, "1" to "12", in order of citizens; from birth months and ties, each tie once.

    Both sides of a tie buy for the other in the other's month of birth; whoever is tied to oneself buys once.
    """
    buyers: dict[int, list[int]] = {month: [] for month in MONTHS}
    for one, other in ties:
        buyers[months[other]].append(one)
        if one != other:
            buyers[months[one]].append(other)
    return {
        str(month): [MonthPresents(citizen_id, presents) for citizen_id, presents in sorted(Counter(buying).items())]
        for month, buying in buyers.items()
    }
