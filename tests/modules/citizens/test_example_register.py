"""Every example register satisfies the contract, as judged here and not by the service's own rules."""

import itertools
import json
import re
import time
from collections import Counter
from datetime import UTC, date, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinfolk.modules.citizens.example_names import LANGUAGES, patronymic, polish_feminine, russian_feminine
from kinfolk.modules.citizens.example_register import AS_OF, generate

FIELDS = ["citizen_id", "town", "street", "building", "apartment", "name", "birth_date", "gender", "relatives"]


def register_of(count: int, seed: int | None = None, ties: int | None = None) -> list[dict[str, Any]]:
    document = json.loads(b"".join(generate(count, seed, ties)))
    assert list(document) == ["citizens"]
    return document["citizens"]


def broken_rules(register: list[dict[str, Any]]) -> list[str]:
    """What the contract forbids and the register does."""
    found = []
    ids = [citizen["citizen_id"] for citizen in register]
    if len(set(ids)) != len(ids):
        found.append("ids repeat")
    kin = {(citizen["citizen_id"], other) for citizen in register for other in citizen["relatives"]}
    found += [f"{one} lists {other}, not the other way" for one, other in kin if (other, one) not in kin]
    found += [f"{other} is nobody" for _, other in kin if other not in set(ids)]
    for citizen in register:
        found += [f"{citizen['citizen_id']}: {broken}" for broken in broken_rules_of_one(citizen)]
    return found


def broken_rules_of_one(citizen: dict[str, Any]) -> list[str]:
    found = []
    if list(citizen) != FIELDS:
        found.append(f"fields {list(citizen)}")
    numbers = {key: citizen[key] for key in ("citizen_id", "apartment")}
    found += [key for key, value in numbers.items() if type(value) is not int or not 0 <= value < 2**63]
    texts = {key: citizen[key] for key in ("town", "street", "building", "name")}
    found += [
        key
        for key, text in texts.items()
        if not 1 <= len(text) <= 256 or not any(map(str.isalnum, text)) or "\0" in text
    ]
    match = re.fullmatch(r"([0-9]{2})\.([0-9]{2})\.([0-9]{4})", citizen["birth_date"])
    born = date(int(match[3]), int(match[2]), int(match[1])) if match else None
    if born is None or not date(1900, 1, 1) < born < datetime.now(UTC).date():
        found.append("birth_date")
    if citizen["gender"] not in {"male", "female"}:
        found.append("gender")
    if len(set(citizen["relatives"])) != len(citizen["relatives"]):
        found.append("relatives repeat")
    return found


def tie_count(register: list[dict[str, Any]]) -> int:
    return len({frozenset((one["citizen_id"], other)) for one in register for other in one["relatives"]})


@given(count=st.integers(0, 120), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_register_keeps_the_rules(count: int, seed: int, data: st.DataObject) -> None:
    ties = data.draw(st.none() | st.integers(0, min(count * (count + 1) // 2, 100 * count)))
    register = register_of(count, seed, ties)
    assert len(register) == count
    assert broken_rules(register) == []
    if ties is not None:
        assert tie_count(register) == ties


def test_the_judge_sees_broken_rules() -> None:
    register = register_of(30, 1)
    register[3]["relatives"] = [register[3]["citizen_id"] % 30 + 2, 77]
    register[4] |= {"birth_date": "31.02.2019"[::-1], "town": "  ", "apartment": True, "gender": "m"}
    register[5]["citizen_id"] = register[6]["citizen_id"]
    found = " ".join(broken_rules(register))
    for words in ("not the other way", "77 is nobody", "birth_date", "town", "apartment", "gender", "ids repeat"):
        assert words in found


def test_ten_thousand_citizens_are_quick_and_alive() -> None:
    started = time.process_time()
    chunks = list(generate(10_000, 7))
    assert time.process_time() - started < 10
    assert max(map(len, chunks)) < 200_000
    register = json.loads(b"".join(chunks))["citizens"]
    assert broken_rules(register) == []

    alone = sum(not citizen["relatives"] for citizen in register)
    with_themselves = sum(citizen["citizen_id"] in citizen["relatives"] for citizen in register)
    assert 1_000 < alone < 4_000
    assert 100 < with_themselves < 400
    assert 7_500 < tie_count(register) < 10_000
    assert len(Counter(citizen["town"] for citizen in register)) > 10
    decades = Counter((AS_OF.year - 1 - int(citizen["birth_date"][-4:])) // 10 for citizen in register)
    assert set(decades) == set(range(10))
    assert decades[3] > decades[7] > decades[9]
    names = " ".join(citizen["name"] for citizen in register)
    assert re.search("[А-я]", names)
    assert re.search("[A-z]", names)
    buildings = {citizen["building"] for citizen in register}
    assert any(re.fullmatch(r"\d+к\dстр\d", building) for building in buildings)


def test_kin_make_sense() -> None:
    register = register_of(3_000, 11)
    people = {citizen["citizen_id"]: citizen for citizen in register}
    ages = {number: born(citizen) for number, citizen in people.items()}
    for one, two in itertools.combinations(people, 2):
        if two in people[one]["relatives"]:
            years_apart = abs((ages[one] - ages[two]).days) / 365.2425
            is_couple = years_apart < 9.1 and people[one]["gender"] != people[two]["gender"]
            assert is_couple or 17.99 < years_apart < 55
            assert people[one]["town"] == people[two]["town"]


def born(citizen: dict[str, Any]) -> date:
    return datetime.strptime(citizen["birth_date"], "%d.%m.%Y").replace(tzinfo=UTC).date()


def test_the_same_wish_gives_the_same_bytes() -> None:
    def text(*wish: int | None) -> bytes:
        return b"".join(generate(*wish))  # type: ignore[arg-type]

    assert text(200, 5) == text(200, 5)
    assert text(200, 5, 90) == text(200, 5, 90)
    assert text(200, 5) != text(200, 6)
    assert text(200, 5) != text(200, 5, 90)
    assert text(200) != text(200)


@pytest.mark.parametrize(("count", "ties"), [(0, 0), (1, 1), (3, 6), (40, 820), (300, 0), (300, 30_000)])
def test_exactly_so_many_ties(count: int, ties: int) -> None:
    register = register_of(count, 2, ties)
    assert tie_count(register) == ties
    assert broken_rules(register) == []


@pytest.mark.parametrize(
    ("count", "ties", "words"),
    [
        (-1, None, "0 to 10000 citizens, not -1"),
        (10_001, None, "0 to 10000 citizens, not 10001"),
        (3, 7, "3 citizens have 0 to 6 ties, not 7"),
        (300, 30_001, "0 to 30000 ties"),
        (3, -1, "not -1"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_once(count: int, ties: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate(count, 1, ties)


@pytest.mark.parametrize(
    ("father", "son", "daughter"),
    [
        ("Александр", "Александрович", "Александровна"),
        ("Сергей", "Сергеевич", "Сергеевна"),
        ("Дмитрий", "Дмитриевич", "Дмитриевна"),
        ("Юрий", "Юрьевич", "Юрьевна"),
        ("Игорь", "Игоревич", "Игоревна"),
        ("Павел", "Павлович", "Павловна"),
        ("Михаил", "Михайлович", "Михайловна"),
    ],
)
def test_patronymics(father: str, son: str, daughter: str) -> None:
    assert (patronymic(father, "male"), patronymic(father, "female")) == (son, daughter)


def test_surnames_agree() -> None:
    assert list(map(russian_feminine, ("Иванов", "Репин", "Достоевский", "Шевченко"))) == [
        "Иванова",
        "Репина",
        "Достоевская",
        "Шевченко",
    ]
    assert list(map(polish_feminine, ("Kowalski", "Dudek"))) == ["Kowalska", "Dudek"]


def test_every_language_writes_buildings_with_a_number() -> None:
    rng = Random(1)
    for language in LANGUAGES:
        assert all(language.building(rng)[0].isdigit() and language.street(rng) for _ in range(100))
