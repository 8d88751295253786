"""What people and places are called: names that agree with each other, in Russian, German and Polish."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Literal

from faker.providers.address.de_CH import Provider as GermanPlaces
from faker.providers.address.pl_PL import Provider as PolishPlaces
from faker.providers.address.ru_RU import Provider as RussianPlaces
from faker.providers.person.de_CH import Provider as GermanNames
from faker.providers.person.pl_PL import Provider as PolishNames
from faker.providers.person.ru_RU import Provider as RussianNames

Gender = Literal["male", "female"]

# Faker keeps Russian first names by the alphabet, so that Авксентий would be as frequent as Александр.
COMMON_RUSSIAN_NAMES = frozenset(
    """
    Александр Алексей Анатолий Андрей Антон Артём Борис Вадим Валерий Василий Виктор Владимир Владислав Вячеслав
    Геннадий Григорий Денис Дмитрий Евгений Егор Иван Игорь Кирилл Константин Максим Матвей Михаил Николай Олег Павел
    Пётр Петр Роман Сергей Станислав Степан Тимофей Фёдор Федор Юрий Ярослав
    Александра Алина Алла Анастасия Анна Валентина Валерия Варвара Вера Виктория Галина Дарья Евгения Екатерина Елена
    Елизавета Ирина Кира Ксения Лариса Лидия Любовь Людмила Маргарита Марина Мария Надежда Наталья Нина Оксана Ольга
    Полина Раиса Светлана Софья Тамара Татьяна Ульяна Юлия
    """.split()  # noqa: SIM905  # eighty quoted names read worse
)
PATRONYMIC_STEMS = {"Лев": "Льв", "Михаил": "Михайл", "Павел": "Павл", "Пётр": "Петр"}
GERMAN_STREETS = ("Bahnhofstrasse", "Dorfstrasse", "Gartenweg", "Hauptstrasse", "Kirchgasse", "Schulweg", "Seestrasse")


class Pool:
    """Values to draw from, each with its weight."""

    def __init__(self, values: Sequence[str], weight: Callable[[int, str], float]) -> None:
        self.values = values
        self._bounds = list(accumulate(weight(rank, value) for rank, value in enumerate(values)))

    def draw(self, rng: Random) -> str:
        return rng.choices(self.values, cum_weights=self._bounds)[0]


@dataclass(frozen=True)
class Language:
    """How the people of a town are called and where they live."""

    first_names: dict[Gender, Pool]
    surnames: Pool
    towns: Pool
    feminine: Callable[[str], str]
    full_name: Callable[[str, str, Gender, str], str]
    street: Callable[[Random], str]
    building: Callable[[Random], str]


def by_rank(rank: int, _value: str) -> float:
    """The weight in a list that begins with the most frequent: the hundredth is a tenth of the first."""
    return 1 / (rank + 11)


def evenly(_rank: int, _value: str) -> float:
    return 1.0


def commonly(_rank: int, first_name: str) -> float:
    return 60.0 if first_name in COMMON_RUSSIAN_NAMES else 1.0


def patronymic(father: str, gender: Gender) -> str:
    """The Russian middle name of a child of `father`: Юрий gives Юрьевич and Юрьевна, Пётр Петрович and Петровна."""
    stem, suffix = PATRONYMIC_STEMS.get(father, father), "ов"
    if re.search(r"[^аеёиоуыэюя]{2}ий$", father.lower()):
        stem, suffix = father[:-1], "ев"
    elif father.endswith("ий"):
        stem, suffix = f"{father[:-2]}ь", "ев"
    elif father.endswith(("й", "ь")):
        stem, suffix = father[:-1], "ев"
    return f"{stem}{suffix}{'ич' if gender == 'male' else 'на'}"


def russian_feminine(surname: str) -> str:
    if surname.endswith(("ий", "ый", "ой")):
        return f"{surname[:-2]}ая"
    return f"{surname}а" if surname.endswith(("ов", "ев", "ёв", "ин", "ын")) else surname


def polish_feminine(surname: str) -> str:
    return f"{surname[:-1]}a" if surname.endswith(("ski", "cki")) else surname


def unchanged(surname: str) -> str:
    return surname


def russian_full_name(surname: str, first_name: str, gender: Gender, father: str) -> str:
    return f"{surname} {first_name} {patronymic(father, gender)}"


def western_full_name(surname: str, first_name: str, _gender: Gender, _father: str) -> str:
    return f"{first_name} {surname}"


def russian_street(rng: Random) -> str:
    titles = RussianPlaces.street_titles if rng.random() < 0.5 else RussianPlaces.street_titles_noflex
    return f"ул. {rng.choice(titles[:120])}"


def german_street(rng: Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(GERMAN_STREETS)
    return rng.choice(GermanNames.last_names) + rng.choice(("strasse", "weg", "gasse"))


def polish_street(rng: Random) -> str:
    return f"ul. {rng.choice(PolishPlaces.streets_adjective_feminine)}"


def russian_building(rng: Random) -> str:
    """A house number as Russian towns write it: 16, 16А, 16/2, 16к7, 16к7стр5."""
    number, form = rng.randint(1, 120), rng.random()
    if form < 0.6:
        return str(number)
    if form < 0.7:
        return f"{number}{rng.choice('АБВ')}"
    if form < 0.78:
        return f"{number}/{rng.randint(1, 9)}"
    block = f"{number}к{rng.randint(1, 9)}"
    return block if form < 0.94 else f"{block}стр{rng.randint(1, 9)}"


def western_building(rng: Random) -> str:
    return f"{rng.randint(1, 120)}{rng.choice(('', '', '', '', 'a', 'b'))}"


RUSSIAN = Language(
    first_names={
        # A name in a vowel (Илья, Фока) has a patronymic of its own kind.
        "male": Pool([name for name in RussianNames.first_names_male if name[-1] not in "аеёиоуыэюя"], commonly),
        "female": Pool(RussianNames.first_names_female, commonly),
    },
    surnames=Pool(RussianNames.last_names_male, by_rank),
    towns=Pool([name for name in RussianPlaces.city_names if "(" not in name], evenly),
    feminine=russian_feminine,
    full_name=russian_full_name,
    street=russian_street,
    building=russian_building,
)
GERMAN = Language(
    first_names={
        "male": Pool(GermanNames.first_names_male, by_rank),
        "female": Pool(GermanNames.first_names_female, by_rank),
    },
    surnames=Pool(GermanNames.last_names, evenly),
    towns=Pool(GermanPlaces.cities, evenly),
    feminine=unchanged,
    full_name=western_full_name,
    street=german_street,
    building=western_building,
)
POLISH = Language(
    first_names={
        "male": Pool(PolishNames.first_names_male, by_rank),
        "female": Pool(PolishNames.first_names_female, by_rank),
    },
    surnames=Pool(PolishNames.male_last_names, by_rank),
    towns=Pool(PolishPlaces.cities, by_rank),
    feminine=polish_feminine,
    full_name=western_full_name,
    street=polish_street,
    building=western_building,
)
LANGUAGES = (RUSSIAN, RUSSIAN, RUSSIAN, GERMAN, POLISH)
