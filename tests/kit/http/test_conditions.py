"""What a request says in its path and headers: ids, conditions, keys, and the face it called."""

import httpx
import pytest


@pytest.mark.parametrize("number", ["0", "1", "9223372036854775807"])
async def test_an_id_has_one_spelling(planted: httpx.AsyncClient, number: str) -> None:
    assert (await planted.get(f"/things/{number}")).status_code == 200


@pytest.mark.parametrize(
    "number",
    [
        "9223372036854775808",
        "1" * 5_000,
        "01",
        "00",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x1",
        "%201",
        "1%0a",
        "%00",
        "١",
        "²",
        "x",
    ],
)
async def test_other_spellings_name_nothing(planted: httpx.AsyncClient, number: str) -> None:
    answer = await planted.get(f"/things/{number}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-thing")
    assert len(answer.json()["thing_id"]) <= 40


@pytest.mark.parametrize(
    ("header", "is_seen"),
    [
        ('"v1"', True),
        ('W/"v1"', True),
        ('"v0", "v1"', True),
        ('"v0" , W/"v1" ,', True),
        ('"v1.gzip"', True),
        ('"a,b", "v1"', True),
        ("*", True),
        (" * ", True),
        ('"v0"', False),
        ('"v1.txt"', False),
        ('"v1.gzip.gzip"', False),
        ("v1", False),
        ('"v1', False),
        ('w/"v1"', False),
        ("", False),
        (",,,", False),
    ],
)
async def test_if_none_match(planted: httpx.AsyncClient, header: str, is_seen: bool) -> None:
    answer = await planted.get("/things/1", headers={"if-none-match": header})
    assert answer.status_code == (304 if is_seen else 200)


@pytest.mark.parametrize(
    ("header", "is_met"),
    [
        (None, True),
        ('"v1"', True),
        ('"v0", "v1"', True),
        ('"v1.br"', True),
        ("*", True),
        ('W/"v1"', False),
        ('"v2"', False),
        ("v1", False),
        ('"v0" "v1', False),
    ],
)
async def test_if_match(planted: httpx.AsyncClient, header: str | None, is_met: bool) -> None:
    answer = await planted.patch("/things/1", headers={} if header is None else {"if-match": header})
    assert answer.status_code == (200 if is_met else 412)
    assert is_met or answer.json()["type"] == "/problems/stale-tag"


@pytest.mark.parametrize(
    ("header", "is_met"),
    [("*", False), ('"v1"', False), ('W/"v1"', False), ('"v0", "v1.gzip"', False), ('"v0"', True), ("v1", True)],
)
async def test_a_change_may_be_wanted_only_of_what_was_not_seen(
    planted: httpx.AsyncClient, header: str, is_met: bool
) -> None:
    answer = await planted.patch("/things/1", headers={"if-none-match": header})
    assert answer.status_code == (200 if is_met else 412)
    assert is_met or answer.json()["type"] == "/problems/stale-tag"


async def test_a_list_may_come_in_several_headers(planted: httpx.AsyncClient) -> None:
    for name, status in (("if-none-match", 304), ("if-match", 200)):
        headers = [(name, '"v0"'), (name, '"v1"')]
        method = "GET" if status == 304 else "PATCH"
        assert (await planted.request(method, "/things/1", headers=headers)).status_code == status


@pytest.mark.parametrize(("key", "status"), [("k" * 255, 200), ("~!", 200), ("k" * 256, 400), ("", 400), ("a b", 400)])
async def test_an_idempotency_key_is_visible_ascii(planted: httpx.AsyncClient, key: str, status: int) -> None:
    answer = await planted.patch("/things/1", headers={"idempotency-key": key})
    assert answer.status_code == status
    assert answer.json().get("key", None) == (key if status == 200 else None)


async def test_an_idempotency_key_outside_ascii_is_refused(planted: httpx.AsyncClient) -> None:
    answer = await planted.patch("/things/1", headers={"idempotency-key": "ключ".encode()})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/unreadable-header")


async def test_a_place_is_on_the_face_that_was_called(planted: httpx.AsyncClient) -> None:
    assert (await planted.patch("/things/1")).json()["place"] == "/things/1"
    assert (await planted.patch("/api/v1/things/1")).json()["place"] == "/api/v1/things/1"


async def test_location_is_on_the_face_that_was_called(client: httpx.AsyncClient) -> None:
    for face in ("", "/api/v1"):
        added = await client.post(f"{face}/imports", json={"citizens": []})
        location = added.headers["location"]
        assert location == f"{face}/imports/{added.json()['data']['import_id']}/citizens"
        assert (await client.get(location)).json() == {"data": []}


async def test_a_module_is_at_the_root_only_if_it_says_so(planted: httpx.AsyncClient) -> None:
    assert (await planted.get("/api/v1/newcomer")).text == "here"
    assert (await planted.get("/newcomer")).status_code == 404
    assert (await planted.get("/picture")).content == (await planted.get("/api/v1/picture")).content


async def test_an_answer_without_a_body_says_so(planted: httpx.AsyncClient) -> None:
    answer = await planted.delete("/things/1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not {"content-type", "content-length"} & set(answer.headers)
