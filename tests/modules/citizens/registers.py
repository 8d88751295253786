"""Small registers for tests, sent through the front door, and what of them stands in the database."""

from typing import Any

import httpx

from kinfolk.kit.db import Database

TABLES = {
    "imports": "import_id",
    "citizens": "import_id, citizen_id",
    "ties": "import_id, low_id, high_id",
    "idempotent_imports": "key",
}


def a_citizen(citizen_id: int, /, **fields: Any) -> dict[str, Any]:
    """A citizen who is right in every field, but for those given."""
    return {
        "citizen_id": citizen_id,
        "town": "Москва",
        "street": "Льва Толстого",
        "building": "16к7стр5",
        "apartment": 7,
        "name": "Иванов Иван Иванович",
        "birth_date": "26.12.1986",
        "gender": "male",
        "relatives": [],
    } | fields


def a_family(**relatives_of: list[int]) -> list[dict[str, Any]]:
    """Citizens by number, each with relatives: `a_family(_1=[2], _2=[1])`."""
    return [a_citizen(int(name[1:]), relatives=relatives) for name, relatives in relatives_of.items()]


async def add(client: httpx.AsyncClient, citizens: list[dict[str, Any]]) -> int:
    """Import them; returns the number of the import."""
    answer = await client.post("/imports", json={"citizens": citizens})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]["import_id"]


async def listed(client: httpx.AsyncClient, import_id: int) -> list[dict[str, Any]]:
    answer = await client.get(f"/imports/{import_id}/citizens")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def stored(db: Database, import_id: int | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, or those of one import."""
    where = "" if import_id is None else f" WHERE import_id = {import_id}"
    async with db.snapshot() as conn:
        return {
            table: [tuple(row) for row in await conn.fetch(f"SELECT * FROM {table}{where} ORDER BY {order}")]
            for table, order in TABLES.items()
        }


async def row_counts(db: Database) -> dict[str, int]:
    async with db.snapshot() as conn:
        return {table: await conn.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}


def pointers(answer: httpx.Response) -> dict[str, str]:
    """The bad places of a validation error, each with its sentence."""
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == "/problems/invalid-citizens"
    assert (document["title"], document["status"]) == ("The citizens break the rules.", 400)
    assert document["error_count"] == len(document["errors"])
    return {error["pointer"]: error["detail"] for error in document["errors"]}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and kind of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["type"].removeprefix("/problems/")
