"""Every rule of every field, through the front door: each refusal beside its happy twin, and nothing left of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import time_machine
from tests.modules.citizens.registers import (
    a_citizen,
    a_family,
    add,
    listed,
    pointers,
    refusal,
    row_counts,
    stored,
)

from kinfolk.kit.db import Database

MOST = 2**63 - 1
PLACES = ("town", "street", "building")
STRINGS = (*PLACES, "name")
FIELDS = tuple(a_citizen(1))
NOT_IN_A_CHANGE = "citizen_id"

# (fields, a right value, wrong values)
RULES: list[tuple[tuple[str, ...], Any, list[Any]]] = [
    (("citizen_id", "apartment"), 0, [-1, MOST + 1, 10**400, 1.0, 1.5, "1", True, None, [], {}]),
    (("citizen_id", "apartment"), MOST, [float(MOST), str(MOST)]),
    (STRINGS, "a", ["", "a" * 257, "𝐀" * 257, "a\0", "\ud800", 1, 1.0, False, None, ["a"], {"a": 1}]),
    (STRINGS, "𝐀" * 256, ["𝐀" * 256 + "1"]),
    (PLACES, "-٣_", ["_", "-", " ", "\u00a0", "№", "\U0001f600"]),
    (("name",), "-", [" ", "\t\n", "\u00a0\u3000", "\u2028"]),
    (
        ("birth_date",),
        "29.02.2016",
        ["29.02.2015", "31.04.2000", "00.01.2000", "01.00.2000", "01.13.2000", "32.01.2000", "01.01.0000"],
    ),
    (
        ("birth_date",),
        "01.02.2003",
        ["1.2.2003", "01.02.03", "2003-02-01", "01/02/2003", " 01.02.2003", "01.02.2003\n", "٠١.02.2003", "", "a"],
    ),
    (("birth_date",), "01.01.0001", [1, None, ["01.01.0001"], {"day": 1}, True]),
    (("gender",), "female", ["Female", "MALE", "", "other", " male", 1, None, True, ["male"]]),
    (("gender",), "male", ["man"]),
    (("relatives",), [], ["", None, {}, 1, "[]", {"0": 1}]),
]
CASES = [
    pytest.param(field, right, wrong, id=f"{field}-{json.dumps(wrong)[:20]}")
    for fields, right, wrongs in RULES
    for field in fields
    for wrong in wrongs
]


def as_json(document: Any) -> bytes:
    """As json.dumps writes it: surrogates as escapes."""
    return json.dumps(document).encode()


@contextmanager
def on(*moment: int) -> Iterator[None]:
    """The clock stands at this moment, UTC."""
    with time_machine.travel(datetime(*moment, tzinfo=UTC), tick=False):
        yield


@pytest.mark.parametrize(("field", "right", "wrong"), CASES)
async def test_a_rule_of_a_field_in_a_register(
    client: httpx.AsyncClient, db: Database, field: str, right: Any, wrong: Any
) -> None:
    accepted = await client.post("/imports", content=as_json({"citizens": [a_citizen(1, **{field: right})]}))
    assert accepted.status_code == 201, accepted.text
    before = await row_counts(db)
    wrong_register = {"citizens": [a_citizen(2), a_citizen(1, **{field: wrong})]}
    assert list(pointers(await client.post("/imports", content=as_json(wrong_register)))) == [f"/citizens/1/{field}"]
    assert await row_counts(db) == before


@pytest.mark.parametrize(("field", "right", "wrong"), [case for case in CASES if case.values[0] != NOT_IN_A_CHANGE])
async def test_a_rule_of_a_field_in_a_change(
    client: httpx.AsyncClient, db: Database, field: str, right: Any, wrong: Any
) -> None:
    import_id = await add(client, [a_citizen(1)])
    place = f"/imports/{import_id}/citizens/1"
    accepted = await client.patch(place, content=as_json({field: right}))
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["data"] == a_citizen(1, **{field: right})
    before = await stored(db, import_id)
    assert list(pointers(await client.patch(place, content=as_json({"name": "New", field: wrong})))) == [f"/{field}"]
    assert await stored(db, import_id) == before


@pytest.mark.parametrize("field", FIELDS)
async def test_no_field_may_be_missing(client: httpx.AsyncClient, field: str) -> None:
    citizen = a_citizen(1)
    assert await add(client, [citizen])
    del citizen[field]
    assert list(pointers(await client.post("/imports", json={"citizens": [citizen]}))) == [f"/citizens/0/{field}"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"citizens": [], "more": 1}, ["/more"]),
        ({"citizens": [a_citizen(1, more=None)]}, ["/citizens/0/more"]),
        ({}, ["/citizens"]),
        ({"citizens": {}}, ["/citizens"]),
        ({"citizens": None}, ["/citizens"]),
        ({"citizens": [None, 1]}, ["/citizens/0", "/citizens/1"]),
        ([], [""]),
        (None, [""]),
        ("citizens", [""]),
    ],
)
async def test_other_documents(client: httpx.AsyncClient, document: Any, expected: list[str]) -> None:
    assert list(pointers(await client.post("/imports", content=as_json(document)))) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [""]),
        ([], [""]),
        (None, [""]),
        ({"citizen_id": 1}, ["/citizen_id"]),
        ({"citizen_id": 2, "name": "A"}, ["/citizen_id"]),
        ({"name": "A", "more": 1}, ["/more"]),
    ],
)
async def test_other_changes(client: httpx.AsyncClient, db: Database, change: Any, expected: list[str]) -> None:
    import_id = await add(client, [a_citizen(1)])
    before = await stored(db, import_id)
    assert list(pointers(await client.patch(f"/imports/{import_id}/citizens/1", content=as_json(change)))) == expected
    assert await stored(db, import_id) == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"citizens":[]}x', b"\xef\xbb\xbf{}", b"[" * 100_000])
async def test_bodies_that_are_not_json(client: httpx.AsyncClient, body: bytes) -> None:
    import_id = await add(client, [a_citizen(1)])
    assert refusal(await client.post("/imports", content=body)) == (400, "malformed-json")
    assert refusal(await client.patch(f"/imports/{import_id}/citizens/1", content=body)) == (400, "malformed-json")


@pytest.mark.parametrize(
    ("citizens", "expected"),
    [
        (a_family(_1=[2], _2=[]), {"/citizens/0/relatives/0": "citizen 2 does not list 1 as a relative"}),
        (a_family(_1=[3], _2=[]), {"/citizens/0/relatives/0": "there is no citizen 3 in this import"}),
        (a_family(_1=[1, 1]), {"/citizens/0/relatives/1": "citizen 1 is listed already"}),
        ([a_citizen(1), a_citizen(1)], {"/citizens/1/citizen_id": "1 is taken by /citizens/0"}),
    ],
)
async def test_kinship_that_is_not_two_way(client: httpx.AsyncClient, citizens: Any, expected: dict[str, str]) -> None:
    assert await add(client, a_family(_1=[2, 1], _2=[1]))
    assert pointers(await client.post("/imports", json={"citizens": citizens})) == expected


@pytest.mark.parametrize("items", [[-1], ["1"], [1.0], [True], [None], [MOST + 1], [[1]]])
async def test_relatives_are_ids(client: httpx.AsyncClient, items: list[Any]) -> None:
    import_id = await add(client, a_family(_1=[1]))
    refused = await client.post("/imports", json={"citizens": [a_citizen(1, relatives=items)]})
    assert list(pointers(refused)) == ["/citizens/0/relatives/0"]
    refused = await client.patch(f"/imports/{import_id}/citizens/1", json={"relatives": [1, *items]})
    assert list(pointers(refused)) == ["/relatives/1"]


async def test_a_birth_is_before_today_in_utc(client: httpx.AsyncClient) -> None:
    with on(2020, 2, 29, 23, 59, 59):
        import_id = await add(client, [a_citizen(1, birth_date="28.02.2020")])
        place = f"/imports/{import_id}/citizens/1"
        for future in ("29.02.2020", "01.03.2020"):
            expected = f"{future} is not before today"
            refused = await client.post("/imports", json={"citizens": [a_citizen(1, birth_date=future)]})
            assert pointers(refused) == {"/citizens/0/birth_date": expected}
            assert pointers(await client.patch(place, json={"birth_date": future})) == {"/birth_date": expected}
    with on(2020, 3, 1):
        assert (await client.patch(place, json={"birth_date": "29.02.2020"})).status_code == 200
        assert (await listed(client, import_id))[0]["birth_date"] == "29.02.2020"


async def test_every_bad_place_is_named_up_to_a_thousand(client: httpx.AsyncClient) -> None:
    refused = await client.post(
        "/imports", json={"citizens": [a_citizen(1, town="", relatives=[5]), {"citizen_id": "1"}]}
    )
    missing = {f"/citizens/1/{field}" for field in FIELDS[1:]}
    assert set(pointers(refused)) == {"/citizens/0/town", "/citizens/1/citizen_id"} | missing
    document = (await client.post("/imports", json={"citizens": [{}] * 200})).json()
    assert (len(document["errors"]), document["error_count"]) == (1_000, 1_800)


async def test_a_key_given_twice_is_an_error(client: httpx.AsyncClient) -> None:
    import_id = await add(client, [a_citizen(1)])
    refused = await client.patch(f"/imports/{import_id}/citizens/1", content=b'{"name":"A","name":"B"}')
    assert list(pointers(refused)) == ["/name"]
    citizen = json.dumps(a_citizen(1))
    body = f'{{"citizens":[{citizen[:-1]}, "citizen_id": 1}}]}}'
    assert list(pointers(await client.post("/imports", content=body))) == ["/citizens/0/citizen_id"]
