"""Students through the front door."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from kinfolk.kit.db import Database

HOME = "/api/v1/students"
NOBODY = "9223372036854775807"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


async def added(client: httpx.AsyncClient, name: str = "Anna") -> dict[str, Any]:
    answer = await client.post(HOME, json={"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()["result"]


async def listed(client: httpx.AsyncClient, **asked: int) -> list[int]:
    answer = await client.get(HOME, params=asked)
    assert answer.status_code == 200, answer.text
    return [student["id"] for student in answer.json()["result"]]


async def test_a_student_is_added_and_found(client: httpx.AsyncClient) -> None:
    answer = await client.post(HOME, json={"name": "Анна"})
    student = answer.json()["result"]
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{HOME}/{student['id']}"
    moments = f'"created_at":"{student["created_at"]}","updated_at":"{student["updated_at"]}"'
    body = f'{{"id":{student["id"]},"name":"Анна","active":true,{moments}}}'
    assert answer.text == f'{{"success":true,"result":{body}}}'
    assert MOMENT.fullmatch(student["created_at"])
    assert student["updated_at"] == student["created_at"]
    found = await client.get(answer.headers["location"])
    assert (found.status_code, found.text) == (200, answer.text)


async def test_those_who_come_together_are_kept_apart(client: httpx.AsyncClient) -> None:
    names = [f"Anna {number}" for number in range(50)]
    students = await asyncio.gather(*(added(client, name) for name in names))
    assert [student["name"] for student in students] == names
    assert len({student["id"] for student in students}) == len(names)
    numbers = [student["id"] for student in students]
    absent = int(NOBODY)
    found = await asyncio.gather(*(client.get(f"{HOME}/{number}") for number in [*numbers, absent]))
    assert [answer.json().get("result", {}).get("name") for answer in found] == [*names, None]


async def test_a_student_is_renamed(client: httpx.AsyncClient, db: Database) -> None:
    student = await added(client)
    async with db.connection() as conn:
        await conn.execute(
            "UPDATE students SET updated_at = updated_at - interval '1 day' WHERE student_id = $1", student["id"]
        )
    answer = await client.patch(f"{HOME}/{student['id']}", json={"name": "Vera"})
    renamed = answer.json()["result"]
    assert answer.status_code == 200
    assert renamed == {**student, "name": "Vera", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] >= student["created_at"]
    assert (await client.get(f"{HOME}/{student['id']}")).json()["result"] == renamed


async def test_a_removed_student_is_no_longer_active(client: httpx.AsyncClient) -> None:
    student = await added(client)
    other = await added(client)
    place = f"{HOME}/{student['id']}"
    for _ in range(2):
        answer = await client.delete(place)
        assert (answer.status_code, answer.content) == (204, b"")
    found = await client.get(place)
    assert (found.status_code, found.json()["result"]["active"]) == (200, False)
    assert await listed(client, after=student["id"] - 1, limit=1) == [other["id"]]
    assert (await client.get(f"{HOME}/{other['id']}")).json()["result"]["active"] is True


async def test_active_students_are_listed_by_id(client: httpx.AsyncClient) -> None:
    numbers = [(await added(client))["id"] for _ in range(5)]
    before = numbers[0] - 1
    assert (await listed(client, after=before))[:5] == numbers
    assert await listed(client, after=before, limit=2) == numbers[:2]
    assert await listed(client, after=numbers[1], limit=2) == numbers[2:4]
    assert await listed(client, after=int(NOBODY)) == []


async def test_a_page_has_100_unless_asked_otherwise(client: httpx.AsyncClient, db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute("INSERT INTO students (name) SELECT 'Anna' FROM generate_series(1, 1100)")
    assert len(await listed(client)) == 100
    assert len(await listed(client, limit=1_000)) == 1_000


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ("limit=0", {"/limit": "must be at least 1"}),
        ("limit=1001", {"/limit": "must be at most 1000"}),
        ("limit=ten&after=-1", {"/limit": "must be an integer, not a string", "/after": "must be at least 0"}),
        ("limit=&after=9223372036854775808", {
            "/limit": "must be an integer, not a string",
            "/after": "must be at most 9223372036854775807",
        }),
        ("limit=1&limit=2", {"/limit": "is given 2 times in one object"}),
        ("offset=10", {"/offset": "is not a known field"}),
    ],
)  # fmt: skip
async def test_a_wrong_query_is_refused_with_all_places(
    client: httpx.AsyncClient, asked: str, places: dict[str, str]
) -> None:
    answer = await client.get(f"{HOME}?{asked}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == places


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, ["/name"]),
        ({"name": ""}, ["/name"]),
        ({"name": " \n"}, ["/name"]),
        ({"name": "A" * 201}, ["/name"]),
        ({"name": "A\0"}, ["/name"]),
        ({"name": None, "id": 1, "active": False}, ["/name", "/id", "/active"]),
        ([], [""]),
    ],
)
async def test_a_wrong_student_is_refused_with_all_places(
    client: httpx.AsyncClient, body: Any, places: list[str]
) -> None:
    there = f"{HOME}/{(await added(client))['id']}"
    for answer in (await client.post(HOME, json=body), await client.patch(there, json=body)):
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert [error["pointer"] for error in answer.json()["errors"]] == places
    assert (await client.get(there)).json()["result"]["name"] == "Anna"


@pytest.mark.parametrize("number", ["0", NOBODY, "9223372036854775808", "01", "one", "-1", "1.0"])
async def test_who_is_not_there_is_404(client: httpx.AsyncClient, number: str) -> None:
    place = f"{HOME}/{number}"
    answers = [
        await client.get(place), await client.patch(place, json={"name": "Vera"}), await client.delete(place)
    ]  # fmt: skip
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json()["type"] == "/problems/no-such-student"
