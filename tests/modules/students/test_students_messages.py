"""Students who come by message; how messages travel is tested with the kit."""

from typing import Any

import httpx
import pytest

from kinfolk.kit.db import Database
from kinfolk.kit.problems import BadInput, InvalidDocument
from kinfolk.modules.students.messages import main


async def test_who_is_told_of_is_added(client: httpx.AsyncClient, db: Database) -> None:
    before = (await client.post("/api/v1/students", json={"name": "before"})).json()["result"]["id"]
    async with db.transaction() as conn:
        await main.operation(conn, await main.read('{"name": "Анна"}'.encode()))
    (student,) = (await client.get("/api/v1/students", params={"after": before})).json()["result"]
    assert (student["name"], student["active"]) == ("Анна", True)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b"{}", ["/name"]),
        (b'{"name": "", "active": false, "id": 1}', ["/name", "/active", "/id"]),
        (b'{"name": "Anna", "name": "Vera"}', ["/name"]),
        (b"[]", [""]),
        (b'{"name": "Anna"', None),
        (b"\xff", None),
        (b"", None),
    ],
)
async def test_a_message_can_set_nothing_but_the_name(body: bytes, places: Any) -> None:
    with pytest.raises(BadInput) as refused:
        await main.read(body)
    if places is None:
        assert not isinstance(refused.value, InvalidDocument)
    else:
        assert [error.pointer for error in refused.value.facts["errors"]] == places


def test_the_lane_is_that_of_the_contract() -> None:
    assert (main.name, main.exchange, main.parking) == ("example.main", "example.exchange", "example.main.error")
    assert main.delays_seconds == (5, 30, 300)
