"""Entries for tests, and what is said of them over HTTP."""

from typing import Any

import httpx

FACES = ("", "/api/v1")
NOBODY = "0" * 32

WHOLE: dict[str, Any] = {
    "full_name": "Anna Karenina",
    "addresses": [
        {
            "kind": "home",
            "building_name": "Дом у реки",
            "unit_number": 2,
            "street_number": "14b",
            "street_name": "Льва Толстого",
            "locality": "Хамовники",
            "city": "Москва",
            "province": "Москва",
            "pincode": 119034,
            "country": "Россия",
        },
        {
            "kind": "work",
            "unit_number": 4.5,
            "street_number": 7,
            "street_name": "x",
            "pincode": "LS1 5HD",
            "country": "y",
        },
    ],
    "phone_numbers": [
        {"kind": "home", "country_code": 7, "area_code": 495, "local_number": 1234567},
        {"kind": "work", "country_code": 44, "local_number": 1134960001},
    ],
    "fax_numbers": [{"kind": "work", "country_code": 1, "area_code": 0, "local_number": 2}],
    "emails": [{"kind": "home", "email": "anna@example.com"}, {"kind": "work", "email": "Anna.K@Müller.de"}],
}


def an_entry(full_name: str = "Anna", *, city: str | None = None, email: str | None = None) -> dict[str, Any]:
    """A small one."""
    place = {"kind": "home", "street_name": "Park Row", "pincode": "1", "country": "UK", "city": city}
    return {
        "full_name": full_name,
        "addresses": [place] if city else [],
        "phone_numbers": [],
        "fax_numbers": [],
        "emails": [{"kind": "home", "email": email}] if email else [],
    }


async def add(client: httpx.AsyncClient, entry: dict[str, Any] | str = "Anna", face: str = "") -> str:
    """Its address."""
    answer = await client.post(f"{face}/addresses", json=an_entry(entry) if isinstance(entry, str) else entry)
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (201, b"", None), answer.text
    return answer.headers["location"]


def refusal(answer: httpx.Response) -> tuple[int, str, list[str]]:
    """The status, what kind of problem, and where."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return (
        answer.status_code,
        document["type"].removeprefix("/problems/"),
        [error["pointer"] for error in document.get("errors", [])],
    )
