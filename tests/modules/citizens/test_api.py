"""Citizens through the front door: what goes in comes out, to the extremes, and unknown places are told so."""

import gzip
import random
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, a_family, add, listed, refusal, row_counts, stored

from kinfolk.kit.db import Database

MOST = 2**63 - 1
LARGEST_BYTES = 70_000_000
FACES = ["", "/api/v1"]
GETS = ["/imports/{}/citizens", "/imports/{}/citizens/birthdays", "/imports/{}/towns/stat/percentile/age"]


@pytest.mark.parametrize("face", FACES)
async def test_a_register_comes_back_as_it_was_sent(client: httpx.AsyncClient, face: str) -> None:
    sent = [a_citizen(1, relatives=[2]), a_citizen(2, relatives=[1], gender="female", birth_date="01.02.1903")]
    added = await client.post(f"{face}/imports", json={"citizens": sent})
    assert added.status_code == 201
    import_id = added.json()["data"]["import_id"]
    assert added.json() == {"data": {"import_id": import_id}}
    assert added.headers["location"] == f"{face}/imports/{import_id}/citizens"
    listed = await client.get(added.headers["location"])
    assert listed.status_code == 200
    assert listed.headers["content-type"] == "application/json"
    assert listed.json() == {"data": sent}
    assert list(listed.json()["data"][0]) == list(a_citizen(1)), "the fields in the contract's order"


async def test_each_import_has_a_number_and_citizens_of_its_own(client: httpx.AsyncClient, db: Database) -> None:
    first = await add(client, [a_citizen(1, name="One")])
    second = await add(client, [a_citizen(1, name="Other")])
    assert first != second
    assert [(await listed(client, import_id))[0]["name"] for import_id in (first, second)] == ["One", "Other"]
    await client.patch(f"/imports/{first}/citizens/1", json={"name": "New"})
    assert (await listed(client, second))[0]["name"] == "Other"


async def test_citizens_come_by_number_and_so_do_relatives(client: httpx.AsyncClient, db: Database) -> None:
    shuffle = random.Random(7).shuffle
    citizen_ids = [0, 3, 5, 9, 10, 11, 100, MOST]
    relatives = {citizen_id: [other for other in citizen_ids if (citizen_id ^ other) & 1] for citizen_id in citizen_ids}
    relatives[5].append(5)
    expected = [a_citizen(citizen_id, relatives=sorted(relatives[citizen_id])) for citizen_id in citizen_ids]
    for kin in relatives.values():
        shuffle(kin)
    sent = [a_citizen(citizen_id, relatives=relatives[citizen_id]) for citizen_id in citizen_ids]
    shuffle(sent)
    import_id = await add(client, sent)
    assert await listed(client, import_id) == expected
    ties = (await stored(db, import_id))["ties"]
    assert len(ties) == len(set(ties)) == sum(map(len, relatives.values())) // 2 + 1, "each tie stands once"


@pytest.mark.parametrize(
    "fields",
    [
        {"citizen_id": 0, "apartment": 0},
        {"citizen_id": MOST, "apartment": MOST, "relatives": [MOST]},
        dict.fromkeys(("town", "street", "building", "name"), "𝐀" * 256),
        dict.fromkeys(("town", "street", "building", "name"), "7"),
        {"name": "\u200b"},
        {"name": "\u0001\\\"/\u2028 '; DROP TABLE citizens; --"},
        {"birth_date": "01.01.0001"},
        {"birth_date": "29.02.2000"},
    ],
)
async def test_extremes_come_back(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    sent = a_citizen(1, **fields)
    assert await listed(client, await add(client, [sent])) == [sent]


async def test_an_empty_import_answers_everything(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, [])
    citizens, birthdays, ages = [(await client.get(path.format(import_id))).json()["data"] for path in GETS]
    assert citizens == []
    assert birthdays == {str(month): [] for month in range(1, 13)}
    assert ages == []
    assert refusal(await client.patch(f"/imports/{import_id}/citizens/1", json={"name": "A"})) == (
        404,
        "no-such-citizen",
    )
    assert [len(rows) for rows in (await stored(db, import_id)).values()] == [1, 0, 0, 0]


async def test_ten_thousand_citizens_and_not_one_more(client: httpx.AsyncClient, db: Database) -> None:
    """Everybody is a relative of the first."""
    everybody = list(range(1, 10_001))
    sent = [a_citizen(1, relatives=everybody), *(a_citizen(citizen_id, relatives=[1]) for citizen_id in everybody[1:])]
    import_id = await add(client, sent)
    assert await listed(client, import_id) == sent
    birthdays = (await client.get(f"/imports/{import_id}/citizens/birthdays")).json()["data"]["12"]
    assert birthdays[0] == {"citizen_id": 1, "presents": 10_000}
    assert birthdays[1:] == [{"citizen_id": citizen_id, "presents": 1} for citizen_id in everybody[1:]]
    before = await row_counts(db)
    refused = await client.post("/imports", json={"citizens": [*sent, a_citizen(10_001)]})
    assert refusal(refused) == (400, "invalid-citizens")
    assert await row_counts(db) == before


def document_of(size: int) -> bytes:
    return b'{"citizens":[]}'.ljust(size)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_seventy_megabytes_and_not_one_byte_more(client: httpx.AsyncClient, db: Database, pack: Any) -> None:
    headers = {"content-encoding": "gzip"} if pack is gzip.compress else {}
    largest = await client.post("/imports", content=pack(document_of(LARGEST_BYTES)), headers=headers)
    assert largest.status_code == 201
    before = await row_counts(db)
    refused = await client.post("/imports", content=pack(document_of(LARGEST_BYTES + 1)), headers=headers)
    assert refusal(refused) == (413, "body-too-large")
    assert await row_counts(db) == before


async def test_a_change_may_have_a_mebibyte(client: httpx.AsyncClient) -> None:
    place = f"/imports/{await add(client, [a_citizen(1)])}/citizens/1"
    assert (await client.patch(place, content=b'{"apartment":1}'.ljust(2**20))).status_code == 200
    assert refusal(await client.patch(place, content=b'{"apartment":1}'.ljust(2**20 + 1))) == (413, "body-too-large")


async def test_a_packed_register_is_unpacked(client: httpx.AsyncClient) -> None:
    packed = gzip.compress(b'{"citizens":[]}')
    assert (await client.post("/imports", content=packed, headers={"content-encoding": "gzip"})).status_code == 201
    cut = await client.post("/imports", content=packed[:-3], headers={"content-encoding": "gzip"})
    assert refusal(cut) == (400, "broken-body")
    assert refusal(await client.post("/imports", content=packed)) == (400, "malformed-json")
    other = await client.post("/imports", content=packed, headers={"content-encoding": "br"})
    assert refusal(other) == (415, "unknown-coding")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "number", ["", "999999999", str(MOST), str(MOST + 1), "9" * 400, "-1", "01", "1.0", "x", "%00"]
)
async def test_imports_that_are_not_there(client: httpx.AsyncClient, face: str, number: str) -> None:
    for path in GETS:
        answer = await client.get(face + path.format(number))
        assert refusal(answer)[0] == 404
    answer = await client.patch(f"{face}/imports/{number}/citizens/1", json={"name": "A"})
    assert refusal(answer) == (404, "no-such-import" if number else "no-such-place")


@pytest.mark.parametrize("number", ["2", str(MOST), str(MOST + 1), "-1", "01", "1.0", "x", "%D9%A1"])
async def test_citizens_who_are_not_there(client: httpx.AsyncClient, number: str) -> None:
    import_id = await add(client, [a_citizen(1)])
    other = await add(client, [a_citizen(2)])
    changed = await client.patch(f"/imports/{other}/citizens/2", json={"name": "A"})
    assert changed.status_code == 200
    answer = await client.patch(f"/imports/{import_id}/citizens/{number}", json={"name": "A"})
    assert refusal(answer) == (404, "no-such-citizen")


async def test_a_slash_at_the_end_is_another_place(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[]))
    for path in [*GETS, "/imports"]:
        assert refusal(await client.get(path.format(import_id) + "/"))[0] == 404
    assert refusal(await client.post("/imports/", json={"citizens": []}))[0] == 404
    assert refusal(await client.patch(f"/imports/{import_id}/citizens/1/", json={"name": "A"}))[0] == 404


@pytest.mark.parametrize("face", FACES)
async def test_wrong_methods_are_told_the_right_ones(client: httpx.AsyncClient, face: str) -> None:
    import_id = await add(client, a_family(_1=[]))
    reading = [path.format(import_id) for path in GETS]
    on_citizen = {"PATCH"} | ({"DELETE"} if face else set())
    for path, allowed in [("/imports", {"POST"}), (f"/imports/{import_id}/citizens/1", on_citizen)]:
        for method in {"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"} - allowed:
            answer = await client.request(method, face + path)
            assert answer.status_code == 405
            assert allowed <= set(answer.headers["allow"].split(", ")) <= allowed | {"OPTIONS"}
    for path in reading:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await client.request(method, face + path)
            assert refusal(answer) == (405, "wrong-method")
            assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", ")) <= {"GET", "HEAD", "OPTIONS"}


async def test_head_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[1]))
    plain = {"accept-encoding": "identity"}
    for path in GETS:
        got = await client.get(path.format(import_id), headers=plain)
        head = await client.head(path.format(import_id), headers=plain)
        assert head.status_code == 200
        kept = ("etag", "content-type", "content-length")
        assert [head.headers[name] for name in kept] == [got.headers[name] for name in kept]
    assert (await client.head("/imports/999999999/citizens")).status_code == 404


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br"])
async def test_answers_are_packed_as_asked(client: httpx.AsyncClient, coding: str) -> None:
    sent = [a_citizen(citizen_id) for citizen_id in range(100)]
    path = GETS[0].format(await add(client, sent))
    packed = await client.get(path, headers={"accept-encoding": coding})
    assert packed.headers["content-encoding"] == coding
    assert packed.json()["data"] == sent
    plain = await client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content
    for tag in (packed.headers["etag"], plain.headers["etag"]):
        seen = await client.get(path, headers={"accept-encoding": coding, "if-none-match": tag})
        assert (seen.status_code, seen.content) == (304, b"")
