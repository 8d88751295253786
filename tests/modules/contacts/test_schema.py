"""The published schema says what is taken: an independent validator and ours agree on what people make up."""

import copy
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.modules.contacts.entries import FACES, WHOLE
from tests.modules.contacts.made_up import documents
from tests.postgres_places import REPOSITORY

from kinfolk.kit.documents import read_json
from kinfolk.kit.problems import InvalidDocument
from kinfolk.modules.contacts.contacts import LONGEST_EMAIL, Entry
from kinfolk.modules.contacts.schema import SCHEMA

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.json"))
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA), format_checker=jsonschema.FormatChecker())
JUNK = [None, True, -1, 0, 1, 1.5, 10**30, "", "x", "home", [], {}, {"kind": "home"}, [None]]


def is_taken(document: Any) -> bool:
    try:
        read_json(json.dumps(document).encode(), Entry)
    except InvalidDocument:
        return False
    return True


@pytest.mark.parametrize("face", FACES)
async def test_it_is_published(client: httpx.AsyncClient, face: str) -> None:
    answer = await client.get(f"{face}/schemas/address-book-v1.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/schema+json")
    document = answer.json()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
async def test_examples_are_right(client: httpx.AsyncClient, path: Path) -> None:
    document = json.loads(path.read_bytes())
    VALIDATOR.validate(document)
    added = await client.post("/addresses", content=path.read_bytes())
    assert added.status_code == 201
    found = (await client.get(added.headers["location"])).json()
    assert found == {"addresses": [], "phone_numbers": [], "fax_numbers": [], "emails": []} | document


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
    assert any(json.loads(path.read_bytes()).keys() == WHOLE.keys() for path in EXAMPLES)


@settings(max_examples=60, deadline=None)
@given(documents())
def test_what_fits_is_taken_and_stays_the_same(document: Any) -> None:
    assert VALIDATOR.is_valid(document)
    entry = read_json(json.dumps(document).encode(), Entry)
    assert msgspec.to_builtins(entry) == document


@pytest.mark.parametrize("size", [LONGEST_EMAIL, LONGEST_EMAIL + 1])
def test_both_agree_on_a_long_address(size: int) -> None:
    address = ("anna@" + ("x" * 63 + ".") * 3).ljust(size - 3, "x") + ".de"
    document = {"full_name": "Anna", "emails": [{"kind": "home", "email": address}]}
    assert VALIDATOR.is_valid(document) == is_taken(document) == (size == LONGEST_EMAIL)


@settings(max_examples=100, deadline=None)
@given(documents(), st.data())
def test_both_agree_on_what_is_wrong(document: Any, data: st.DataObject) -> None:
    wrong = copy.deepcopy(document)
    place: Any = wrong
    while True:
        step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[step], dict | list) and place[step] and data.draw(st.booleans())):
            break
        place = place[step]
    match data.draw(st.sampled_from(["junk", "gone", "more"])):
        case "gone":
            del place[step]
        case "more" if isinstance(place, dict):
            place["more"] = 1
        case _:
            place[step] = data.draw(st.sampled_from(JUNK))
    assert is_taken(wrong) == VALIDATOR.is_valid(wrong)
