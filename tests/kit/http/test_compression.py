"""Answers in the coding that the client prefers, each with an entity tag of its own."""

import gzip
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from tests.kit.http.conftest import LONG
from tests.modules.citizens.registers import a_citizen

from kinfolk.kit.http import compression

UNPACK: dict[str | None, Any] = {
    None: lambda body: body,
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body),
}


async def raw(client: httpx.AsyncClient, path: str, accept: str | None, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its body as it came."""
    asked = client.build_request("GET", path, headers={"accept-encoding": accept or "", **headers})
    if accept is None:
        del asked.headers["accept-encoding"]
    answer = await client.send(asked, stream=True)
    body = b"".join([piece async for piece in answer.aiter_raw()])
    await answer.aclose()
    return answer, body


@pytest.mark.parametrize("size", [2_000, 40_000], ids=["on the loop", "in a thread"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_each_coding_unpacks_to_the_same(planted: httpx.AsyncClient, coding: str, size: int) -> None:
    answer, body = await raw(planted, f"/things/1?size={size}", coding)
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["etag"] == f'"v1.{coding}"'
    assert UNPACK[coding](body).decode() == f'{{"long":"{LONG[:size]}"}}'
    assert len(body) < 1_000


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("*", "zstd"),
        ("zstd;q=0, *", "br"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("gzip; q=0.2 , br ;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity;q=0", None),
        ("identity;q=0, *;q=0", None),
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("gzip;q=nonsense", None),
        ("deflate, compress", None),
        ("\xff;q=1", None),
    ],
)
async def test_the_client_says_which_coding(planted: httpx.AsyncClient, accept: str | None, coding: str | None) -> None:
    headers = {} if accept != "\xff;q=1" else {"accept-encoding": b"\xff;q=1"}
    answer, body = await raw(planted, "/things/1", "" if headers else accept, **headers)  # type: ignore[arg-type]
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert UNPACK[coding](body).decode() == f'{{"long":"{LONG}"}}'


async def test_codings_in_several_headers_count_together(planted: httpx.AsyncClient) -> None:
    answer = await planted.get("/things/1", headers=[("accept-encoding", "gzip;q=0.1"), ("accept-encoding", "br")])
    assert answer.headers["content-encoding"] == "br"


@pytest.mark.parametrize("path", ["/health", "/picture", "/api/v1/things/1"], ids=lambda path: path[1:])
async def test_what_is_small_or_packed_stays_as_it_is(planted: httpx.AsyncClient, path: str) -> None:
    answer, body = await raw(planted, path, "gzip", **{"if-none-match": '"v0"'})
    plain = await planted.get(path)
    if path == "/api/v1/things/1":  # the twin that is packed
        assert answer.headers["content-encoding"] == "gzip"
    else:
        assert "content-encoding" not in answer.headers
        assert body == plain.content
    assert ("vary" in answer.headers) == (path == "/api/v1/things/1")


@pytest.mark.parametrize("coding", [None, "gzip", "br", "zstd"])
async def test_a_tag_of_any_coding_is_seen_and_confirmed(planted: httpx.AsyncClient, coding: str | None) -> None:
    first, _ = await raw(planted, "/things/1", coding or "identity")
    for seen in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}'):
        again, body = await raw(planted, "/things/1", coding or "identity", **{"if-none-match": seen})
        assert (again.status_code, body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["vary"] == "Accept-Encoding"
        assert "content-type" not in again.headers
        assert "content-length" not in again.headers


async def test_a_304_for_anything_has_the_plain_tag(planted: httpx.AsyncClient) -> None:
    again, _ = await raw(planted, "/things/1", "gzip", **{"if-none-match": "*"})
    assert (again.status_code, again.headers["etag"]) == (304, '"v1"')


async def test_a_packed_answers_tag_lets_a_citizen_be_corrected(client: httpx.AsyncClient) -> None:
    citizens = [a_citizen(number) for number in range(30)]
    import_id = (await client.post("/imports", json={"citizens": citizens})).json()["data"]["import_id"]
    seen = await client.get(f"/imports/{import_id}/citizens", headers={"accept-encoding": "zstd"})
    assert seen.headers["etag"].endswith('.zstd"')
    place = f"/imports/{import_id}/citizens/1"
    corrected = await client.patch(place, json={"name": "Новый"}, headers={"if-match": seen.headers["etag"]})
    assert corrected.status_code == 200
    stale = await client.patch(place, json={"name": "Опоздавший"}, headers={"if-match": seen.headers["etag"]})
    assert stale.status_code == 412


async def test_a_large_body_is_packed_off_the_loop(planted: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads = []
    pack = compression.PACK["gzip"]

    def noticed(body: bytes) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return pack(body)

    monkeypatch.setitem(compression.PACK, "gzip", noticed)
    await raw(planted, "/things/1?size=2000", "gzip")
    await raw(planted, "/things/1?size=40000", "gzip")
    assert threads == [True, False]
