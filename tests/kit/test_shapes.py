from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from kinfolk.kit.documents import parse
from kinfolk.kit.problems import InvalidDocument
from kinfolk.kit.shapes import BadPlaces, keeps_rules, pointer, walk


def shout(text: str) -> str | None:
    return None if text.isupper() else "must be loud"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Node(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=2, max_length=3)]
    below: Optional["Node"] = None


class Tolerant(Struct, rename="camel", tag_field="type", tag="tolerant"):
    first_name: str
    nick_name: str | UnsetType = UNSET


class Pair(Struct, array_like=True):
    one: int
    two: int


def complaints(document: Any, shape: Any) -> list[tuple[str, str]]:
    """What the walk says; checked against msgspec, which must find the same documents right."""
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    places = BadPlaces()
    walk(parse(body), shape, places)
    try:
        msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError:
        assert places.count
    return [(place.pointer, place.detail) for place in places.kept]


RIGHT: list[tuple[Any, Any]] = [
    ("ab", str),
    (1, float),
    (1.5, float),
    (True, bool),
    (None, str | None),
    ("1", int | str),
    (2, Literal[1, 2, "a"]),
    (1, Size),
    ([1, 2], set[int]),
    ([1, 2], tuple[int, ...]),
    ([0, 5, 10], list[Annotated[int, Meta(multiple_of=5)]]),
    (3, Literal[1] | Annotated[int, Meta(le=4)]),
    ({"1": "a"}, dict[int, str]),
    ({"a": [None]}, dict),
    ("2026-01-01", date),
    ("12:00:00", time),
    ("2026-01-01T00:00:00Z", datetime),
    ("12345678-1234-5678-1234-567812345678", UUID),
    ("1.5", Decimal),
    (1.5, Decimal),
    ({"type": "tolerant", "firstName": "A", "other": 1}, Tolerant),
    ([1, 2], Pair),
    ({"name": "abc", "below": {"name": "de"}}, Node),
    ([1, "a"], list[Pair | int | str]),
]


@pytest.mark.parametrize(("document", "shape"), RIGHT)
def test_right_documents_have_no_bad_place(document: Any, shape: Any) -> None:
    assert complaints(document, shape) == []


WRONG: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    (1, str, [("", "must be a string, not an integer")]),
    ("1", int, [("", "must be an integer, not a string")]),
    (b"1.0", int, [("", "must be an integer, not a number with a fraction or an exponent")]),
    (b"1e3", int, [("", "must be an integer, not a number with a fraction or an exponent")]),
    (True, int, [("", "must be an integer, not a boolean")]),
    (None, int, [("", "must be an integer, not null")]),
    ("1", float, [("", "must be a number, not a string")]),
    (b"1e400", float, [("", "is larger than a number may be")]),
    (b"1e400", Any, [("", "is larger than a number may be")]),
    (b"1" + b"0" * 400, float, [("", "is larger than a number may be")]),
    ([], int | str | None, [("", "must be an integer or a string or null, not an array")]),
    ({}, list[int], [("", "must be an array, not an object")]),
    (b'{"a":1,"a":2}', list[int], [("", "must be an array, not an object")]),
    ([], Node, [("", "must be an object, not an array")]),
    (0, Annotated[int, Meta(gt=0)], [("", "must be more than 0")]),
    (9, Annotated[int, Meta(lt=9)], [("", "must be less than 9")]),
    ([3, 4], list[Annotated[int, Meta(multiple_of=2)]], [("/0", "must be a multiple of 2")]),
    ([0, 1, -1], list[Annotated[int, Meta(ge=0)]], [("/2", "must be at least 0")]),
    ([2, 1, 3], list[Annotated[int, Meta(le=2)]], [("/2", "must be at most 2")]),
    ([1, True], list[int], [("/1", "must be an integer, not a boolean")]),
    ("", Annotated[str, Meta(min_length=1)], [("", "must have at least 1 character")]),
    ("a", Annotated[str, Meta(min_length=2)], [("", "must have at least 2 characters, and has 1")]),
    ("ab", Annotated[str, Meta(pattern="^b")], [("", "must match the pattern ^b")]),
    ({}, Annotated[dict[str, int], Meta(min_length=1)], [("", "must have at least 1 member")]),
    (["a"] * 3, Annotated[list[int], Meta(max_length=1)], [
        ("", "may have at most 1 item, and has 3"),
        ("/0", "must be an integer, not a string"),
    ]),
    (3, Literal[1, 2, "a"], [("", 'must be one of 1, 2, "a"')]),
    (True, Literal[1, 2], [("", "must be an integer, not a boolean")]),
    (3, Size, [("", "must be one of 1, 2")]),
    (5, Literal[1] | Annotated[int, Meta(le=4)], [("", "must be one of 1")]),
    ("2026-02-30", date, [("", "Invalid RFC3339 encoded date")]),
    ("x", UUID, [("", "Invalid UUID")]),
    ({"type": "tolerant"}, Tolerant, [("/firstName", "is missing")]),
    ({"name": "a", "below": {"name": "long", "x/~": 1}}, Node, [
        ("/name", "must have at least 2 characters, and has 1"),
        ("/below/name", "may have at most 3 characters, and has 4"),
        ("/below/x~1~0", "is not a known field"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "shape", "expected"), WRONG)
def test_every_bad_place_is_named(document: Any, shape: Any, expected: list[tuple[str, str]]) -> None:
    assert complaints(document, shape) == expected


def test_a_rule_is_asked_once_the_type_is_right() -> None:
    shape = list[Annotated[str, Meta(max_length=3, extra={"rule": shout})]]
    assert complaints(["AB", "ab", "abcd", 1], shape) == [
        ("/1", "must be loud"),
        ("/2", "may have at most 3 characters, and has 4"),
        ("/3", "must be a string, not an integer"),
    ]
    assert complaints(["ab"], list[Annotated[str, Meta(extra={"other": 1})]]) == []


Loud = Annotated[str, Meta(extra={"rule": shout})]


class Loudest(Struct):
    said: list[Loud]
    again: Annotated[list[Loud], Meta(extra={"rule": lambda said: "is too much" if said[1:] else None})] | int = 0


class LoudNode(Struct):
    said: Loud
    below: "LoudNode | None" = None


@pytest.mark.parametrize(
    ("right", "wrong", "shape"),
    [
        ("A", "a", Loud),
        ("A", "a", Annotated[Loud, Meta(description="told")]),
        ({"said": ["A"]}, {"said": ["A", "a"]}, Loudest),
        ({"said": [], "again": ["A"]}, {"said": [], "again": ["A", "B"]}, Loudest),
        ({"said": [], "again": 1}, {"said": [], "again": ["a"]}, Loudest),
        ([None, "A"], [None, "a"], list[Loud | None]),
    ],
)
def test_rules_are_kept_wherever_they_stand(right: Any, wrong: Any, shape: Any) -> None:
    assert keeps_rules(right, shape)
    assert complaints(right, shape) == []
    assert not keeps_rules(wrong, shape)
    assert complaints(wrong, shape) != []


@pytest.mark.parametrize(
    ("document", "shape"),
    [({"a": "A"}, dict[str, Loud]), ({"said": "A", "below": {"said": "B"}}, LoudNode), ("A", Loud | Annotated[str, 1])],
)
def test_what_is_rare_is_left_to_the_walk(document: Any, shape: Any) -> None:
    assert not keeps_rules(document, shape)
    assert complaints(document, shape) == []


def test_what_has_no_rules_keeps_them() -> None:
    assert keeps_rules({"below": 1}, Node)
    assert keeps_rules(1, Annotated[str, Meta(description="quiet")])


def test_the_rule_of_a_union_member_is_asked_for_that_member() -> None:
    perhaps_loud = Annotated[str, Meta(extra={"rule": shout})] | None
    assert complaints(["LOUD", None], list[perhaps_loud]) == []
    assert complaints("low", perhaps_loud) == [("", "must be loud")]


def test_names_in_pointers_are_escaped_shortened_and_storable() -> None:
    assert pointer(["a/b", "~", 0]) == "/a~1b/~0/0"
    assert pointer(["x" * 100]) == "/" + "x" * 64 + "…"
    assert pointer(["\ud800\0"]) == "/\ufffd\ufffd"


def test_a_thousand_places_are_kept_and_all_are_counted() -> None:
    places = BadPlaces()
    places.raise_if_any(InvalidDocument)
    walk(["a"] * 1_001, list[int], places)
    assert len(places.kept) == 1_000
    with pytest.raises(InvalidDocument) as refusal:
        places.raise_if_any(InvalidDocument)
    assert (len(refusal.value.facts["errors"]), refusal.value.facts["error_count"]) == (1_000, 1_001)
