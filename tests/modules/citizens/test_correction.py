"""Correcting a citizen: the answer is what stands in the database, on both sides of each tie; a refusal leaves it."""

from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, a_family, add, listed, pointers, refusal, stored

from kinfolk.kit.db import Database

CHANGES = {
    "town": "Керчь",
    "street": "Иосифа Бродского",
    "building": "2",
    "apartment": 2**63 - 1,
    "name": "Иванова Мария Леонидовна",
    "birth_date": "29.02.2000",
    "gender": "female",
    "relatives": [2, 1],
}


async def relatives(client: httpx.AsyncClient, import_id: int) -> dict[int, list[int]]:
    return {citizen["citizen_id"]: citizen["relatives"] for citizen in await listed(client, import_id)}


@pytest.mark.parametrize("face", ["", "/api/v1"])
@pytest.mark.parametrize("fields", [*([name] for name in CHANGES), list(CHANGES)], ids=str)
async def test_the_fields_that_are_sent_change_and_no_other(
    client: httpx.AsyncClient, face: str, fields: list[str]
) -> None:
    import_id = await add(client, a_family(_1=[3], _2=[], _3=[1]))
    change = {name: CHANGES[name] for name in fields}
    answer = await client.patch(f"{face}/imports/{import_id}/citizens/1", json=change)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = a_citizen(1, relatives=[3]) | change
    expected["relatives"].sort()
    assert answer.json() == {"data": expected}
    assert list(answer.json()["data"]) == list(a_citizen(1))
    others = a_family(_2=[1], _3=[]) if "relatives" in fields else a_family(_2=[], _3=[1])
    assert await listed(client, import_id) == [expected, *others]


@pytest.mark.parametrize(
    ("before", "citizen_id", "wanted", "after"),
    [
        pytest.param({1: [2], 2: [1], 3: []}, 1, [3], {1: [3], 2: [], 3: [1]}, id="replaced"),
        pytest.param({1: [2], 2: [1], 3: []}, 2, [3, 1], {1: [2], 2: [1, 3], 3: [2]}, id="one more"),
        pytest.param({1: [2, 3], 2: [1], 3: [1]}, 1, [3], {1: [3], 2: [], 3: [1]}, id="one less"),
        pytest.param({1: [2, 3], 2: [1], 3: [1]}, 1, [], {1: [], 2: [], 3: []}, id="none"),
        pytest.param({1: [2], 2: [1], 3: []}, 1, [2], {1: [2], 2: [1], 3: []}, id="the same"),
        pytest.param({1: [2], 2: [1], 3: []}, 1, [1, 2], {1: [1, 2], 2: [1], 3: []}, id="oneself too"),
        pytest.param({1: [1], 2: [], 3: []}, 1, [], {1: [], 2: [], 3: []}, id="oneself no more"),
        pytest.param({1: [], 2: [], 3: []}, 3, [3], {1: [], 2: [], 3: [3]}, id="only oneself"),
        pytest.param({1: [1], 2: [3], 3: [2]}, 1, [3, 2], {1: [2, 3], 2: [1, 3], 3: [1, 2]}, id="not oneself but all"),
        pytest.param({1: [], 2: [], 3: []}, 2, [3, 2, 1], {1: [2], 2: [1, 2, 3], 3: [2]}, id="low, self and high"),
    ],
)
async def test_relatives_change_on_both_sides(
    client: httpx.AsyncClient, db: Database, before: Any, citizen_id: int, wanted: list[int], after: Any
) -> None:
    import_id = await add(client, [a_citizen(number, relatives=kin) for number, kin in before.items()])
    answer = await client.patch(f"/imports/{import_id}/citizens/{citizen_id}", json={"relatives": wanted})
    assert answer.json()["data"]["relatives"] == after[citizen_id]
    assert await relatives(client, import_id) == after
    expected = [(import_id, low, high) for low, kin in after.items() for high in kin if low <= high]
    assert (await stored(db, import_id))["ties"] == expected


async def test_a_change_of_something_else_tells_the_relatives(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[5], _3=[5], _5=[1, 3, 5, 9], _9=[5]))
    answer = await client.patch(f"/imports/{import_id}/citizens/5", json={"name": "New"})
    assert answer.json()["data"]["relatives"] == [1, 3, 5, 9]


async def test_the_same_numbers_in_another_import_are_left(client: httpx.AsyncClient) -> None:
    first, second = [await add(client, a_family(_1=[2], _2=[1], _3=[])) for _ in range(2)]
    await client.patch(f"/imports/{first}/citizens/1", json={"relatives": [3], "name": "New"})
    assert await listed(client, second) == a_family(_1=[2], _2=[1], _3=[])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([9], {"/relatives/0": "there is no citizen 9 in this import"}),
        (
            [3, 9, 2, 2**63 - 1],
            {
                "/relatives/1": "there is no citizen 9 in this import",
                "/relatives/3": f"there is no citizen {2**63 - 1} in this import",
            },
        ),
        ([3, 3], {"/relatives/1": "citizen 3 is listed already"}),
    ],
)
async def test_after_a_refusal_everything_is_as_it_was(
    client: httpx.AsyncClient, db: Database, wanted: list[int], expected: dict[str, str]
) -> None:
    import_id = await add(client, a_family(_1=[2], _2=[1], _3=[]))
    await add(client, a_family(_9=[]))
    place = f"/imports/{import_id}/citizens/1"
    before, tag = await stored(db, import_id), (await client.get(f"/imports/{import_id}/citizens")).headers["etag"]
    assert pointers(await client.patch(place, json={"relatives": wanted, "name": "New"})) == expected
    assert await stored(db, import_id) == before, "the version too"
    assert (await client.get(f"/imports/{import_id}/citizens")).headers["etag"] == tag
    assert (await client.patch(place, json={"relatives": [3], "name": "New"})).status_code == 200


async def test_an_unknown_citizen_leaves_the_version(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, a_family(_1=[]))
    before = await stored(db, import_id)
    assert refusal(await client.patch(f"/imports/{import_id}/citizens/2", json={"name": "New"}))[0] == 404
    assert await stored(db, import_id) == before


async def test_what_is_wrong_is_told_before_what_is_not_there(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[]))
    for place in ("/imports/999999999/citizens/1", f"/imports/{import_id}/citizens/2"):
        assert list(pointers(await client.patch(place, json={"name": " "}))) == ["/name"]
        assert refusal(await client.patch(place, json={"relatives": [7]}))[0] == 404


async def test_ten_thousand_relatives_at_once(client: httpx.AsyncClient) -> None:
    everybody = list(range(1, 10_001))
    import_id = await add(client, [a_citizen(citizen_id) for citizen_id in everybody])
    place = f"/imports/{import_id}/citizens/5000"
    assert (await client.patch(place, json={"relatives": everybody[::-1]})).json()["data"]["relatives"] == everybody
    assert set(map(tuple, (await relatives(client, import_id)).values())) == {(5000,), tuple(everybody)}
    assert (await client.patch(place, json={"relatives": []})).json()["data"]["relatives"] == []
    assert not any((await relatives(client, import_id)).values())
