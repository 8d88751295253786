"""The contract of the address book through the front door, on each store."""

import asyncio
import gzip
import json
import re
from typing import Any

import httpx
import pytest
from tests.modules.contacts.entries import FACES, NOBODY, WHOLE, add, an_entry, refusal

pytestmark = pytest.mark.usefixtures("store")

NAME = "x" * (1_048_576 - 17)
LARGEST = json.dumps({"full_name": NAME}, separators=(",", ":")).encode()
INVALID, MALFORMED = "invalid-document", "malformed-json"


@pytest.mark.parametrize("face", FACES)
async def test_an_entry_is_added_found_replaced_and_removed(client: httpx.AsyncClient, face: str) -> None:
    place = await add(client, WHOLE, face)
    assert re.fullmatch(rf"{face}/addresses/[0-9a-f]{{32}}", place)
    found = await client.get(place)
    assert (found.status_code, found.headers["content-type"], found.json()) == (200, "application/json", WHOLE)
    other = {"full_name": "Вера"}
    replaced = await client.put(place, json=other)
    assert (replaced.status_code, replaced.content) == (204, b"")
    empty = {"addresses": [], "phone_numbers": [], "fax_numbers": [], "emails": []}
    assert (await client.get(place)).json() == other | empty
    removed = await client.delete(place)
    assert (removed.status_code, removed.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert refusal(await client.request(method, place))[:2] == (404, "no-such-contact")
    assert refusal(await client.put(place, json=other))[0] == 404
    assert (await client.get(f"{face}/addresses")).json() == {}


async def test_the_list_has_all_by_id(client: httpx.AsyncClient) -> None:
    places = await asyncio.gather(*(add(client, f"Anna {number}") for number in range(20)))
    listed = (await client.get("/addresses")).json()
    assert list(listed) == sorted(place.rpartition("/")[2] for place in places)
    assert {entry["full_name"] for entry in listed.values()} == {f"Anna {number}" for number in range(20)}


@pytest.mark.parametrize("face", FACES)
async def test_one_slash_at_the_end_is_as_none(client: httpx.AsyncClient, face: str) -> None:
    added = await client.post(f"{face}/addresses/", json=an_entry())
    place = added.headers["location"]
    assert (added.status_code, place.startswith(f"{face}/addresses/")) == (201, True)
    assert (await client.get(f"{place}/")).json() == an_entry()
    assert (await client.put(f"{place}/", json=an_entry("Vera"))).status_code == 204
    assert list((await client.get(f"{face}/addresses/")).json()) == [place.rpartition("/")[2]]
    assert (await client.delete(f"{place}/")).status_code == 204
    for wrong in (f"{face}/addresses//", f"{place}//", f"{face}/schemas/address-book-v1.json/"):
        assert refusal(await client.get(wrong))[0] == 404, wrong


@pytest.mark.parametrize("face", FACES)
async def test_methods(client: httpx.AsyncClient, face: str) -> None:
    place = await add(client, WHOLE, face)
    allowed = {f"{face}/addresses": {"GET", "HEAD", "POST"}, place: {"GET", "HEAD", "PUT", "DELETE"}}
    for path, methods in allowed.items():
        told = await client.options(path)
        assert told.status_code == 204
        assert set(told.headers["allow"].split(", ")) == methods | {"OPTIONS"}
        for method in {"PUT", "POST", "PATCH", "DELETE"} - methods:
            answer = await client.request(method, path, json=an_entry())
            assert refusal(answer)[0] == 405
            assert methods <= set(answer.headers["allow"].split(", "))
        whole, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))
        assert head.headers["etag"] == whole.headers["etag"]


async def test_a_tag_tells_whether_it_has_changed(client: httpx.AsyncClient) -> None:
    place = await add(client)
    for path in (place, "/addresses", "/addresses?limit=1"):
        first = await client.get(path)
        tag = first.headers["etag"]
        assert tag.startswith('"')
        seen = await client.get(path, headers={"if-none-match": f'"other", {tag}'})
        assert (seen.status_code, seen.content, seen.headers["etag"]) == (304, b"", tag)
        assert (await client.put(place, json=an_entry("Vera"))).status_code == 204
        changed = await client.get(path, headers={"if-none-match": tag})
        assert (changed.status_code, changed.headers["etag"] == tag) == (200, False)
        assert (await client.put(place, json=an_entry("Anna"))).status_code == 204
        again = await client.get(path, headers={"if-none-match": tag})
        assert again.status_code == 200, "back again is not the same state"


async def test_a_change_of_what_was_not_seen_is_refused(client: httpx.AsyncClient) -> None:
    place = await add(client)
    stale = (await client.get(place)).headers["etag"]
    assert (await client.put(place, json=an_entry("Vera"), headers={"if-match": stale})).status_code == 204
    for method in ("PUT", "DELETE"):
        body = {"json": an_entry("Olga")} if method == "PUT" else {}
        answer = await client.request(method, place, headers={"if-match": stale}, **body)
        assert refusal(answer)[:2] == (412, "stale-tag")
        only_new = await client.request(method, place, headers={"if-none-match": "*"}, **body)
        assert refusal(only_new)[:2] == (412, "stale-tag")
        absent = await client.request(method, f"/addresses/{NOBODY}", headers={"if-match": stale}, **body)
        assert refusal(absent)[0] == 404
    found = await client.get(place)
    assert found.json()["full_name"] == "Vera"
    assert (await client.delete(place, headers={"if-match": f'"x", {found.headers["etag"]}'})).status_code == 204


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_of_those_with_one_tag_one_succeeds(client: httpx.AsyncClient, method: str) -> None:
    for _ in range(5):
        place = await add(client)
        tag = (await client.get(place)).headers["etag"]

        async def change(number: int, place: str = place, tag: str = tag) -> int:
            body = {"json": an_entry(f"Anna {number}")} if method == "PUT" else {}
            return (await client.request(method, place, headers={"if-match": tag}, **body)).status_code

        statuses = sorted(await asyncio.gather(*map(change, range(8))))
        assert statuses == [204] + [412 if method == "PUT" else 404] * 7


@pytest.mark.parametrize("face", FACES)
async def test_pages_lead_to_one_another(client: httpx.AsyncClient, face: str) -> None:
    for number in range(7):
        await add(client, f"Anna {number}")
    await add(client, "Boris")
    path, pages = f"{face}/addresses?limit=3&q=anna", []
    while path:
        answer = await client.get(path)
        pages.append(list(answer.json()))
        assert len(pages) < 10, "pages go round"
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("link", ""))
        path = link[1] if link else ""
        assert not path or path.startswith(f"{face}/addresses?")
    ids = [contact_id for page in pages for contact_id in page]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert ids == sorted(ids)
    assert len(set(ids)) == 7


async def test_pages_neither_skip_nor_repeat_while_others_write(client: httpx.AsyncClient) -> None:
    for number in range(30):
        await add(client, f"Anna {number}")
    stays = dict.fromkeys(list((await client.get("/addresses")).json())[::2], 0)
    path, gone, pages = "/addresses?limit=4", 0, 0
    while path:
        pages += 1
        assert pages < 50, "pages go round"
        answer = await client.get(path)
        page = list(answer.json())
        for contact_id in page:
            if contact_id in stays:
                stays[contact_id] += 1
        if page and page[-1] not in stays:  # the next page begins after one that is gone
            assert (await client.delete(f"/addresses/{page[-1]}")).status_code == 204
            gone += 1
        await add(client, "Newcomer")
        await client.put(f"/addresses/{min(stays)}", json=an_entry("Changed"))
        link = re.fullmatch(r"<(.*)>; rel=\"next\"", answer.headers.get("link", ""))
        path = link[1] if link else ""
    assert set(stays.values()) == {1}
    assert gone, "no page began after one that is gone: this shows less than it says"


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("anna", {"Anna Karenina", "Hanna"}),
        ("ANNA KARENINA", {"Anna Karenina"}),
        ("karenina anna", {"Anna Karenina"}),
        ("москва", {"Anna Karenina"}),
        ("хамовники", {"Anna Karenina"}),
        ("STRASSE", {"Uwe Straße"}),
        ("strasse", {"Uwe Straße"}),
        ("cafe\u0301", {"Café"}),
        ("hanna@ex", {"Hanna"}),
        ("%", {"100%_\\"}),
        ("_\\", {"100%_\\"}),
        ("льва", set()),
        ("nobody", set()),
        ("", {"Anna Karenina", "Hanna", "Uwe Straße", "Café", "100%_\\"}),
    ],
)
async def test_a_search_looks_at_names_emails_and_towns(client: httpx.AsyncClient, q: str, found: set[str]) -> None:
    for entry in (
        WHOLE,
        an_entry("Hanna", email="Hanna@Example.com"),
        *map(an_entry, ("Uwe Straße", "Café", "100%_\\")),
    ):
        await add(client, entry)
    answer = await client.get("/addresses", params={"q": q})
    assert {entry["full_name"] for entry in answer.json().values()} == found


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=x", "limit=1&limit=2", f"limit={2**31}", f"limit={2**63}"),
        *("after=x", f"after={NOBODY}0", f"after={NOBODY}%0A", "after=%0A", "q=%00", f"q={'x' * 201}", "p=1"),
    ],
)
async def test_a_query_that_cannot_be(client: httpx.AsyncClient, query: str) -> None:
    status, kind, pointers = refusal(await client.get(f"/addresses?{query}"))
    assert (status, kind, pointers) == (400, "invalid-query", ["/" + query.partition("=")[0]])


WRONG: list[tuple[str, Any, list[str]]] = [
    ("no name", {}, ["/full_name"]),
    ("an empty name", {"full_name": ""}, ["/full_name"]),
    ("null", {"full_name": "A", "emails": None}, ["/emails"]),
    ("no object", [], [""]),
    ("unknown", {"full_name": "A", "age": 1}, ["/age"]),
    ("no e-mail", {"full_name": "A", "emails": [{"kind": "home", "email": "a@b"}]}, ["/emails/0/email"]),
    ("another kind", {"full_name": "A", "emails": [{"kind": "x", "email": "a@b.de"}]}, ["/emails/0/kind"]),
    (
        "every place",
        {
            "full_name": 1,
            "addresses": [
                {"kind": "home", "street_name": "", "pincode": 0, "country": None, "unit_number": "1", "x": 1}
            ],
            "phone_numbers": [{"kind": "home", "country_code": 0, "area_code": -1, "local_number": 1.5}],
            "fax_numbers": [{}],
        },
        [
            "/full_name",
            "/addresses/0/unit_number",
            "/addresses/0/street_name",
            "/addresses/0/pincode",
            "/addresses/0/country",
            "/addresses/0/x",
            "/phone_numbers/0/country_code",
            "/phone_numbers/0/area_code",
            "/phone_numbers/0/local_number",
            "/fax_numbers/0/kind",
            "/fax_numbers/0/country_code",
            "/fax_numbers/0/local_number",
        ],
    ),
]


@pytest.mark.parametrize(("document", "pointers"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_every_bad_place_is_named(client: httpx.AsyncClient, document: Any, pointers: list[str]) -> None:
    place = await add(client)
    for answer in (await client.post("/addresses", json=document), await client.put(place, json=document)):
        assert refusal(answer) == (400, INVALID, pointers)
    assert len((await client.get("/addresses")).json()) == 1
    assert (await client.get(place)).json() == an_entry()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "NUL": (b'{"full_name":"a\\u0000"}', INVALID),
    "half a pair": (b'{"full_name":"\\ud800"}', INVALID),
    "half a pair, raw": ('{"full_name":"\ud800"}'.encode("utf-8", "surrogatepass"), MALFORMED),
    "NaN": (b'{"full_name":NaN}', INVALID),
    "infinite": (b'{"full_name":"a","addresses":[{"unit_number":1e999}]}', INVALID),
    "doubled": (b'{"full_name":"a","full_name":"b"}', INVALID),
    "nested": (b'{"full_name":' + b"[" * 100_000, MALFORMED),
    "nested, whole": (b'{"full_name":' + b"[" * 400 + b"]" * 400 + b"}", INVALID),
    "a long number": (b'{"full_name":"a","phone_numbers":[{"local_number":' + b"9" * 20_000 + b"}]}", INVALID),
    "nothing": (b"", MALFORMED),
    "another coding": ('{"full_name":"ä"}'.encode("latin-1"), MALFORMED),
}


@pytest.mark.parametrize(("body", "kind"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_input(client: httpx.AsyncClient, body: bytes, kind: str) -> None:
    place = await add(client)
    for answer in (await client.post("/addresses", content=body), await client.put(place, content=body)):
        assert refusal(answer)[:2] == (400, kind)
    assert (await client.get(place)).json() == an_entry()


@pytest.mark.parametrize("contact_id", ["x", "0", NOBODY.upper()[:-1] + "A", NOBODY + "0", "a" * 5_000, "%00", "..%5c"])
async def test_an_id_that_cannot_be_is_nobodys(client: httpx.AsyncClient, contact_id: str) -> None:
    for method, body in (("GET", None), ("PUT", an_entry()), ("DELETE", None)):
        answer = await client.request(method, f"/addresses/{contact_id}", json=body)
        assert refusal(answer)[:2] == (404, "no-such-contact")


async def test_the_largest_body_is_kept(client: httpx.AsyncClient) -> None:
    for right in (LARGEST, LARGEST + b" "):
        packed = gzip.compress(right, 1)
        for answer in (
            await client.post("/addresses", content=right),
            await client.post("/addresses", content=packed, headers={"content-encoding": "gzip"}),
        ):
            assert answer.status_code == 201
            assert (await client.get(answer.headers["location"])).json()["full_name"] == NAME
