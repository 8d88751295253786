import gc
import json
import time
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.modules.citizens.registers import a_citizen

from kinfolk.kit.documents import read_at_a_glance
from kinfolk.modules.citizens import register
from kinfolk.modules.citizens.register import (
    Correction,
    Dates,
    InvalidCitizens,
    NewImport,
    Register,
    fewest_quotes,
    read_change,
    read_register,
    register_of,
)

PATIENTLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
TODAY = date(2026, 1, 1)


def citizen(citizen_id: Any = 1, relatives: Any = (), **other: Any) -> dict[str, Any]:
    relatives = list(relatives) if isinstance(relatives, tuple | range) else relatives
    return a_citizen(1, relatives=relatives) | {"citizen_id": citizen_id} | other


def body_of(*citizens: Any) -> bytes:
    return json.dumps({"citizens": citizens}).encode()


def read(*citizens: Any) -> Register:
    return read_register(body_of(*citizens), TODAY)


def bad_places(body: bytes) -> dict[str, str]:
    with pytest.raises(InvalidCitizens) as refusal:
        read_register(body, TODAY)
    errors = refusal.value.facts["errors"]
    assert len({place.pointer for place in errors}) == len(errors) == refusal.value.facts["error_count"]
    return {place.pointer: place.detail for place in errors}


def test_a_right_register_becomes_rows_and_ties() -> None:
    right = read(citizen(3, [1, 3]), citizen(1, [2, 3]), citizen(2, [1], gender="female"))
    assert right.citizens[2] == (
        2, "Москва", "Льва Толстого", "16к7стр5", 7, "Иванов Иван Иванович", date(1986, 12, 26), "female",
    )  # fmt: skip
    assert [row[0] for row in right.citizens] == [3, 1, 2]
    assert sorted(right.ties) == [(1, 2), (1, 3), (3, 3)]


def test_a_usual_register_is_proven_right_at_a_glance() -> None:
    body = body_of(citizen(1, [2], name='"Анна" \\'), citizen(2, [1]))
    document = read_at_a_glance(body, NewImport, fewest_quotes)
    assert document is not None
    assert register_of(document, TODAY) == read_register(body, TODAY)


def test_an_id_is_given_once() -> None:
    assert len(read(citizen(1), citizen(2)).citizens) == 2
    assert bad_places(body_of(citizen(1), citizen(2), citizen(1))) == {
        "/citizens/2/citizen_id": "1 is taken by /citizens/0"
    }


def test_an_empty_register_is_right() -> None:
    assert read() == Register([], [])


def test_a_register_that_one_look_cannot_prove_is_read_all_the_same() -> None:
    body = body_of(citizen(name="\\u0000 is how to write it"))
    assert read_register(body, TODAY).citizens[0][5] == "\\u0000 is how to write it"


@pytest.mark.parametrize("field", list(citizen()))
def test_no_field_may_be_missing_null_doubled_or_of_another_type(field: str) -> None:
    others = {name: value for name, value in citizen().items() if name != field}
    pointer = f"/citizens/0/{field}"
    assert bad_places(body_of(others)) == {pointer: "is missing"}
    for wrong in (None, True, 1.0, {}, [] if field != "relatives" else "1"):
        assert set(bad_places(body_of(citizen(**{field: wrong})))) == {pointer}
    doubled = body_of(citizen()).replace(b'"citizen_id"', f'"{field}": 0, "citizen_id"'.encode())
    assert bad_places(doubled) == {pointer: "is given 2 times in one object"}


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"citizens":{}}', b'{"citizens":[[]]}', b'{"citizens":[],"x":1}'])
def test_other_documents_are_refused(body: bytes) -> None:
    assert len(bad_places(body)) == 1


def test_an_unknown_field_at_any_level() -> None:
    assert bad_places(b'{"citizens":[%b],"b":1}' % json.dumps(citizen(a=1)).encode()) == {
        "/citizens/0/a": "is not a known field",
        "/b": "is not a known field",
    }


@pytest.mark.parametrize("field", ["town", "street", "building"])
def test_places_need_a_letter_or_digit(field: str) -> None:
    for right in ("a", "-7-", "ё", "٣", "_x", "字", "x" * 256, "😀" * 255 + "1"):
        assert right in read(citizen(**{field: right})).citizens[0]
    for wrong in ("", "_", " - ", "😀", "x" * 257, "\u0301", "a\0", "a\ud800"):
        assert set(bad_places(body_of(citizen(**{field: wrong})))) == {f"/citizens/0/{field}"}


@given(st.characters())
@PATIENTLY
def test_a_letter_or_digit_is_what_python_calls_so(character: str) -> None:
    assert (register.letter_fault(character) is None) == character.isalnum()


def test_a_name_is_not_only_white_space() -> None:
    assert read(citizen(name=" -")).citizens[0][5] == " -"
    for wrong in (" ", "\u00a0\t\n", "", "x" * 257):
        assert set(bad_places(body_of(citizen(name=wrong)))) == {"/citizens/0/name"}


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("31.02.2019", "31.02.2019 does not exist"),
        ("29.02.2023", "29.02.2023 does not exist"),
        ("01.01.0000", "01.01.0000 does not exist"),
        ("01.01.2026", "01.01.2026 is not before today"),
        ("02.01.2026", "02.01.2026 is not before today"),
        *(
            (wrong, "must be written DD.MM.YYYY")
            for wrong in (
                "1.02.2019", "01.2.2019", "01.02.19", "2019-02-01", "01/02/2019", " 1.02.2019", "+1.02.2019", "",
                "01.02.2019 ", "01.02.2019\n", "1_.02.2019", "٠١.02.2019", "０1.02.2019", "01.02.-019", "x" * 10_000,
            )
        ),
    ],
)  # fmt: skip
def test_birth_dates_that_are_wrong(written: str, sentence: str) -> None:
    assert bad_places(body_of(citizen(birth_date=written))) == {"/citizens/0/birth_date": sentence}


@PATIENTLY
@given(st.dates(max_value=date(2025, 12, 31)))
def test_every_past_date_is_read(day: date) -> None:
    written = f"{day.day:02}.{day.month:02}.{day.year:04}"
    assert read(citizen(birth_date=written)).citizens[0][6] == day


def test_dates_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "MOST_DATES_REMEMBERED", 2)
    dates = Dates()
    for written in ("01.01.2000", "02.01.2000", "03.01.2000", "03.01.2000"):
        assert dates[written].day == int(written[:2])
    assert list(dates) == ["03.01.2000"]


def test_numbers_reach_to_two_to_the_63_less_one() -> None:
    right = read(citizen(2**63 - 1, [2**63 - 1], apartment=0), citizen(0, apartment=2**63 - 1))
    assert right.citizens[0][0] == 2**63 - 1
    for wrong in (-1, 2**63, 10**400):
        assert set(bad_places(body_of(citizen(1, apartment=wrong), citizen(2)))) == {"/citizens/0/apartment"}
        assert set(bad_places(body_of(citizen(wrong), citizen(2)))) == {"/citizens/0/citizen_id"}
        assert set(bad_places(body_of(citizen(1, [wrong]), citizen(2)))) == {"/citizens/0/relatives/0"}


def test_every_bad_place_of_kinship_is_named() -> None:
    assert bad_places(
        body_of(citizen(1, [2]), citizen(2), citizen(3, [3, 9, 4, 4]), citizen(4, [3]), citizen(2, [4]))
    ) == {
        "/citizens/4/citizen_id": "2 is taken by /citizens/1",
        "/citizens/0/relatives/0": "citizen 2 does not list 1 as a relative",
        "/citizens/2/relatives/1": "there is no citizen 9 in this import",
        "/citizens/2/relatives/3": "citizen 4 is listed already",
        "/citizens/4/relatives/0": "citizen 4 does not list 2 as a relative",
    }


def test_what_cannot_be_read_is_held_against_nobody_else() -> None:
    assert set(bad_places(body_of(citizen("2", [1]), citizen(1, [2])))) == {"/citizens/0/citizen_id"}
    assert set(bad_places(body_of(citizen(1, ["2"]), citizen(2, [1])))) == {"/citizens/0/relatives/0"}
    assert set(bad_places(body_of(citizen(1, relatives=None), citizen(2, [1])))) == {"/citizens/0/relatives"}
    assert set(bad_places(body_of(None, citizen(2, [1])))) == {"/citizens/0"}


def test_faults_of_shape_and_of_kinship_come_together() -> None:
    assert set(bad_places(body_of(citizen(1, [2], town=""), citizen(2, birth_date="01.01.2030")))) == {
        "/citizens/0/town",
        "/citizens/1/birth_date",
        "/citizens/0/relatives/0",
    }


@pytest.mark.parametrize("surplus", [{}, 1, citizen(1)])
def test_a_register_over_the_limit_is_told_so(surplus: Any) -> None:
    crowd = [citizen(number) for number in range(10_000)]
    assert len(read(*crowd).citizens) == 10_000
    assert bad_places(body_of(*crowd, surplus)) == {"/citizens": "may have at most 10000 items, and has 10001"}


def test_a_hundred_thousand_empty_citizens() -> None:
    with pytest.raises(InvalidCitizens) as refusal:
        read_register(body_of(*[{}] * 100_000), TODAY)
    assert refusal.value.facts["error_count"] == 1 + 9 * 10_000
    assert len(refusal.value.facts["errors"]) == 1_000


def test_more_relatives_than_an_import_has_citizens() -> None:
    assert set(bad_places(body_of(citizen(1, range(10_001))))) == {"/citizens/0/relatives"}


def test_one_citizen_tied_to_all_costs_no_square() -> None:
    """Ten times as many take about twelve times as long; a square would be a hundred times."""

    def seconds(size: int) -> tuple[float, float]:
        """To read it, and to tell what is wrong with it."""
        crowd = [citizen(0, range(size)), *(citizen(number, [0]) for number in range(1, size))]
        right, last = body_of(*crowd), size - 1
        wrong = body_of(*crowd[:-1], citizen(last))
        reading = []
        for _ in range(3):
            start = time.process_time()
            assert len(read_register(right, TODAY).ties) == size
            reading.append(time.process_time() - start)
        telling = []
        for _ in range(3):
            start = time.process_time()
            told = bad_places(wrong)
            telling.append(time.process_time() - start)
            assert told == {f"/citizens/0/relatives/{last}": f"citizen {last} does not list 0 as a relative"}
        return min(reading), min(telling)

    few, many = seconds(1_000), seconds(10_000)
    assert many[0] < 30 * few[0]
    assert many[1] < 30 * few[1]


@pytest.mark.parametrize("was_on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(was_on: bool) -> None:
    try:
        if not was_on:
            gc.disable()
        read(citizen())
        assert gc.isenabled() == was_on
        with pytest.raises(InvalidCitizens):
            read(citizen(-1))
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


SMALL_IDS = st.integers(0, 4)
FAMILIES = st.dictionaries(SMALL_IDS, st.lists(SMALL_IDS, max_size=4), max_size=5)


@PATIENTLY
@given(
    FAMILIES, st.dictionaries(st.sampled_from(list(citizen())), st.sampled_from(["", "A", 1, None, [1]]), max_size=1)
)
def test_a_register_is_taken_exactly_if_a_naive_reader_takes_it(
    families: dict[int, list[int]], wrong: dict[str, Any]
) -> None:
    citizens = [citizen(citizen_id, relatives) for citizen_id, relatives in families.items()]
    is_right = all(
        len(set(relatives)) == len(relatives)
        and all(citizen_id in families.get(relative, []) for relative in relatives)
        for citizen_id, relatives in families.items()
    )
    if is_right:
        pairs = {
            (min(pair), max(pair)) for one, theirs in families.items() for other in theirs for pair in [(one, other)]
        }
        ties = read(*citizens).ties
        assert set(ties) == pairs
        assert len(ties) == len(pairs)
    else:
        assert bad_places(body_of(*citizens))
    unfit = {"town": [1, "", None, [1]], "gender": ["", "A", 1, None, [1]], "birth_date": ["", "A", 1, None, [1]]}
    if citizens and any(value in unfit.get(field, []) for field, value in wrong.items()):
        citizens[-1] |= wrong
        assert f"/citizens/{len(citizens) - 1}/{next(iter(wrong))}" in bad_places(body_of(*citizens))


def change(**fields: Any) -> Correction:
    return read_change(json.dumps(fields).encode(), TODAY)


def bad_change(body: bytes) -> dict[str, str]:
    with pytest.raises(InvalidCitizens) as refusal:
        read_change(body, TODAY)
    return {place.pointer: place.detail for place in refusal.value.facts["errors"]}


def test_a_change_holds_what_was_given_and_nothing_else() -> None:
    assert change(name="Анна", birth_date="01.02.1990", apartment=0) == Correction(
        {"name": "Анна", "birth_date": date(1990, 2, 1), "apartment": 0}, None
    )
    assert change(relatives=[3, 1]) == Correction({}, [3, 1])
    assert change(relatives=[]) == Correction({}, [])
    assert len(change(**{name: value for name, value in citizen().items() if name != "citizen_id"}).columns) == 7


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", {"": "must have at least one field"}),
        (b"[]", {"": "must be an object, not an array"}),
        (b'{"citizen_id":1}', {"/citizen_id": "is not a known field"}),
        (b'{"name":null}', {"/name": "must be a string, not null"}),
        (b'{"gender":"x"}', {"/gender": 'must be one of "female", "male"'}),
        (b'{"town":"A","town":"A"}', {"/town": "is given 2 times in one object"}),
        (b'{"relatives":[1,2,1]}', {"/relatives/2": "citizen 1 is listed already"}),
        (b'{"birth_date":"01.01.2026"}', {"/birth_date": "01.01.2026 is not before today"}),
        (
            b'{"birth_date":"31.02.2019","relatives":[-1,1,1],"name":" "}',
            {
                "/birth_date": "31.02.2019 does not exist",
                "/relatives/0": "must be at least 0",
                "/relatives/2": "citizen 1 is listed already",
                "/name": "must not be only white space",
            },
        ),
    ],
)
def test_a_wrong_change_is_told_every_bad_place(body: bytes, expected: dict[str, str]) -> None:
    assert bad_change(body) == expected
