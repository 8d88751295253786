"""The query of a request, read as a shape."""

import json
from typing import Any

import httpx
import pytest
from tests.kit.http.conftest import PLANTED

from kinfolk.kit.http.application import describe


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("word=hill", {"word": "hill", "most": 5, "kind": None}),
        ("word=12&most=7&kind=3", {"word": "12", "most": 7, "kind": "3"}),
        ("word=%D0%96%2B+%26&kind=", {"word": "Ж+ &", "most": 5, "kind": ""}),
        ("word=%ff%fe", {"word": "\ufffd\ufffd", "most": 5, "kind": None}),
        ("kind=null&word=null", {"word": "null", "most": 5, "kind": "null"}),
    ],
)
async def test_a_right_query_is_read(planted: httpx.AsyncClient, asked: str, read: dict[str, Any]) -> None:
    answer = await planted.get(f"/search?{asked}")
    assert (answer.status_code, answer.json()) == (200, read)


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ("", {"/word": "is missing"}),
        ("word=h&most=10", {"/word": "must have at least 2 characters, and has 1", "/most": "must be at most 9"}),
        ("word=hill&most=-1", {"/most": "must be at least 1"}),
        ("word=hill&most=" + "9" * 100, {"/most": "must be at most 9"}),
        *((f"word=hill&most={text}", {"/most": "must be an integer, not a string"})
          for text in ("", "one", "01", "1.0", "+1", "%201", "1_0", "\u0663", "9" * 5_000, "1e0", "true")),
        ("word=hill&word=mill", {"/word": "is given 2 times in one object"}),
        ("word=hill&many=1&%00=", {"/many": "is not a known field", "/\ufffd": "is not a known field"}),
        ("word=a%00b", {"/word": "holds a NUL or half a surrogate pair, which cannot be stored"}),
    ],
)  # fmt: skip
async def test_a_wrong_query_is_refused_with_all_places(
    planted: httpx.AsyncClient, asked: str, places: dict[str, str]
) -> None:
    answer = await planted.get(f"/search?{asked}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-query")
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == places


def test_the_document_tells_what_may_be_asked() -> None:
    parameters = json.loads(describe([PLANTED]))["paths"]["/api/v1/search"]["get"]["parameters"]
    assert parameters == [
        {
            "name": "word",
            "in": "query",
            "required": True,
            "description": "What to look for.",
            "schema": {"type": "string", "minLength": 2},
        },
        {
            "name": "most",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
        },
        {
            "name": "kind",
            "in": "query",
            "required": False,
            "schema": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
    ]
