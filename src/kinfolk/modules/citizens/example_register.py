"""Example registers: believable families, streets and birthdays, the same again for the same seed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from random import Random

import msgspec

from kinfolk.modules.citizens.example_names import LANGUAGES, Gender, Language, by_rank

MOST_CITIZENS = 10_000
MOST_TIES_PER_CITIZEN = 100
# Ages count from a fixed day, so that a seed gives the same bytes on any day; nobody is born on it or later.
AS_OF = date(2025, 1, 1)
OLDEST_YEARS = 99
DAYS_PER_YEAR = 365.2425
CITIZENS_PER_TOWN = 450
CITIZENS_PER_CHUNK = 500

Tie = tuple[int, int]


class ExampleCitizen(msgspec.Struct):
    """One citizen of the document, the fields in its order."""

    citizen_id: int
    town: str
    street: str
    building: str
    apartment: int
    name: str
    birth_date: str
    gender: Gender
    relatives: list[int]


@dataclass(frozen=True)
class Town:
    name: str
    language: Language
    streets: list[str]


@dataclass(frozen=True)
class Home:
    street: str
    building: str
    apartment: int


@dataclass(frozen=True)
class Person:
    """A citizen in the making."""

    first_name: str
    gender: Gender
    age_days: int
    town: Town
    home: Home
    name: str


def generate(count: int, seed: int | None = None, ties: int | None = None) -> Iterator[bytes]:
    """The JSON document `{"citizens":[…]}` of `count` citizens, one a line, in chunks of some 100 kB.

    The same count, seed and ties give the same bytes; without a seed every register is another.
    A tie joins two citizens, or one with himself, and is written on both sides. The families come with
    about 0.9 ties a citizen; `ties` asks for exactly so many in all: some are left out, or more are tied,
    neighbours in the document first. Raises ValueError for more than 10,000 citizens, which the service does
    not take in one document, and for more ties than 100 a citizen or than these citizens can have.
    """
    if not 0 <= count <= MOST_CITIZENS:
        raise ValueError(f"a register has 0 to {MOST_CITIZENS} citizens, not {count}")
    most_ties = min(count * (count + 1) // 2, count * MOST_TIES_PER_CITIZEN)
    if ties is not None and not 0 <= ties <= most_ties:
        raise ValueError(f"{count} citizens have 0 to {most_ties} ties, not {ties}")
    return chunks(list(citizens(count, Random(seed), ties)))  # noqa: S311  # nothing secret


def chunks(register: list[ExampleCitizen]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    yield b'{"citizens":['
    for start in range(0, len(register), CITIZENS_PER_CHUNK):
        lines = b",\n".join(map(encode, register[start : start + CITIZENS_PER_CHUNK]))
        yield (b",\n" if start else b"\n") + lines
    yield b"\n]}\n"


def citizens(count: int, rng: Random, tie_count: int | None) -> Iterator[ExampleCitizen]:
    people: list[Person] = []
    ties: dict[Tie, None] = {}
    towns = some_towns(count, rng)
    while len(people) < count:
        members, kin = a_family(rng.choices(towns, [by_rank(3 * rank, "") for rank in range(len(towns))])[0], rng)
        ties |= {(len(people) + low, len(people) + high): None for low, high in kin}
        people += members
    # The last family may reach beyond the end.
    kept = [(low, high) for low, high in ties if high < count]
    relatives: list[list[int]] = [[] for _ in range(count)]
    for low, high in kept if tie_count is None else exactly(tie_count, kept, count, rng):
        relatives[low].append(high + 1)
        if low != high:
            relatives[high].append(low + 1)
    for number, (person, kin_ids) in enumerate(zip(people, relatives, strict=False), start=1):
        yield ExampleCitizen(
            citizen_id=number,
            town=person.town.name,
            street=person.home.street,
            building=person.home.building,
            apartment=person.home.apartment,
            name=person.name,
            birth_date=f"{AS_OF - timedelta(days=person.age_days):%d.%m.%Y}",
            gender=person.gender,
            relatives=sorted(kin_ids),
        )


def exactly(tie_count: int, ties: list[Tie], count: int, rng: Random) -> Iterable[Tie]:
    """`tie_count` ties among `count` citizens: of the given ones, and of near neighbours where they are too few."""
    if tie_count <= len(ties):
        return rng.sample(ties, tie_count)
    return [*ties, *islice(further_ties(set(ties), count, rng), tie_count - len(ties))]


def further_ties(known: set[Tie], count: int, rng: Random) -> Iterator[Tie]:
    """Every tie that is not known: of neighbours first, each citizen with himself last."""
    return (
        (low, low + distance)
        for distance in (*range(1, count), 0)
        for low in rng.sample(range(count - distance), count - distance)
        if (low, low + distance) not in known
    )


def some_towns(count: int, rng: Random) -> list[Town]:
    """Three towns or more, the first the largest; no two of the same name."""
    towns: dict[str, Town] = {}
    while len(towns) < max(3, count // CITIZENS_PER_TOWN):
        language = rng.choice(LANGUAGES)
        name = language.towns.draw(rng)
        towns[name] = Town(name, language, sorted({language.street(rng) for _ in range(40)}))
    return list(towns.values())


def a_family(town: Town, rng: Random) -> tuple[list[Person], list[Tie]]:
    """One household and its near kin, and who is whose: indices into the people, the lower one first."""
    family = Family(town, rng)
    form = rng.random()
    if form < 0.45:
        family.add_single()
    elif form < 0.6:
        family.add_couple(rng.randint(24 * 365, 90 * 365))
    else:
        family.add_parents_and_children()
    for index in range(len(family.people)):
        if rng.random() < 0.02:
            family.ties.append((index, index))
    return family.people, family.ties


class Family:
    """People of one family as they are thought up, and the ties among them."""

    def __init__(self, town: Town, rng: Random) -> None:
        self.town = town
        self.rng = rng
        self.surname = town.language.surnames.draw(rng)
        self.home = self.some_home()
        self.people: list[Person] = []
        self.ties: list[Tie] = []

    def some_home(self) -> Home:
        return Home(
            street=self.rng.choice(self.town.streets),
            building=self.town.language.building(self.rng),
            apartment=self.rng.randint(1, 240),
        )

    def add(
        self,
        gender: Gender,
        age_days: int,
        *,
        home: Home | None = None,
        surname: str | None = None,
        father: Person | None = None,
    ) -> int:
        """Add someone, at the family's home and of its name (the masculine form) unless told otherwise; the index."""
        language = self.town.language
        surname = surname or self.surname
        first_name = language.first_names[gender].draw(self.rng)
        father_name = father.first_name if father else language.first_names["male"].draw(self.rng)
        in_gender = language.feminine(surname) if gender == "female" else surname
        self.people.append(
            Person(
                first_name=first_name,
                gender=gender,
                age_days=age_days,
                town=self.town,
                home=home or self.home,
                name=language.full_name(in_gender, first_name, gender, father_name),
            )
        )
        return len(self.people) - 1

    def add_single(self) -> int:
        age_years = self.rng.triangular(18, OLDEST_YEARS, 30)
        return self.add(self.rng.choice(("male", "female")), int(age_years * DAYS_PER_YEAR))

    def add_couple(self, her_age_days: int, home: Home | None = None, father: Person | None = None) -> tuple[int, int]:
        """Add a wife and a husband of nearly her age, `father` being his; their indices."""
        wife = self.add("female", her_age_days, home=home)
        years_older = min(9, max(-3, self.rng.gauss(2, 3)))
        his_age_days = max(18 * 366, int(her_age_days + years_older * DAYS_PER_YEAR))
        husband = self.add("male", his_age_days, home=home, father=father)
        self.ties.append((wife, husband))
        return wife, husband

    def add_parents_and_children(self) -> None:
        rng = self.rng
        her_age_days = int(rng.triangular(21, 80, 38) * DAYS_PER_YEAR)
        grandfather = None
        grandparents: list[int] = []
        if her_age_days < 50 * 365 and rng.random() < 0.45:
            # They are her husband's parents, and he may be nine years older than she is.
            grandparents = list(self.add_couple(her_age_days + rng.randint(31 * 366, 38 * 366), home=self.some_home()))
            grandfather = self.people[grandparents[1]]
        if rng.random() < 0.2:
            mother, father = self.add("female", her_age_days), None
            parents = [mother]
        else:
            mother, father = self.add_couple(her_age_days, father=grandfather)
            parents = [mother, father]
            self.ties += [(grandparent, father) for grandparent in grandparents]
        youngest_parent_days = min(self.people[parent].age_days for parent in parents)
        for _ in range(rng.choices((1, 2, 3, 4), (45, 38, 13, 4))[0]):
            self.add_child(youngest_parent_days, parents, None if father is None else self.people[father])

    def add_child(self, youngest_parent_days: int, parents: list[int], father: Person | None) -> None:
        rng = self.rng
        oldest_days = youngest_parent_days - 18 * 366
        youngest_days = max(1, youngest_parent_days - 42 * 365)
        age_days = rng.randint(youngest_days, max(youngest_days, oldest_days))
        grown_up = age_days > 23 * 365
        gender: Gender = rng.choice(("male", "female"))
        married_name = self.town.language.surnames.draw(rng) if grown_up and gender == "female" else None
        home = self.some_home() if grown_up else None
        child = self.add(gender, age_days, home=home, surname=married_name, father=father)
        self.ties += [(parent, child) for parent in parents]
