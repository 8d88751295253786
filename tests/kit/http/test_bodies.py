"""What becomes of a request's body: its bound, its packing, its charset, and clients that stop half-way."""

import asyncio
import gzip
import hashlib
import json
import random
import tempfile
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.kit.http.conftest import FILE_LIMIT_BYTES, LIMIT_BYTES, PLANTED

from kinfolk.kit.db import Database
from kinfolk.kit.http import bodies
from kinfolk.kit.http.answers import READ_HERE_BYTES
from kinfolk.kit.http.application import MOST_UPLOADS, application
from kinfolk.kit.http.bodies import MOST_MEMBERS, PIECE_BYTES, SMALL_BYTES, Body

GZIP = {"content-encoding": "gzip"}


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def is_whole(answer: httpx.Response, body: bytes) -> bool:
    assert answer.status_code == 201, answer.text
    return answer.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def kind(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def open_files() -> list[str]:
    """What of this process lies in a file that has lost its name."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [path for path in found if path.endswith("(deleted)")]


async def test_a_body_up_to_the_limit_is_taken_and_one_byte_more_is_not(planted: httpx.AsyncClient) -> None:
    most = b"x" * LIMIT_BYTES
    assert is_whole(await planted.post("/sums", content=most), most)
    answer = await planted.post("/sums", content=most + b"x")
    assert kind(answer) == (413, "body-too-large")
    assert answer.json()["limit_bytes"] == LIMIT_BYTES


async def test_a_body_of_no_told_length_is_counted(planted: httpx.AsyncClient) -> None:
    most = b"x" * LIMIT_BYTES
    assert is_whole(await planted.post("/sums", content=pieces(most[:7], b"", most[7:])), most)
    assert kind(await planted.post("/sums", content=pieces(most, b"x"))) == (413, "body-too-large")


async def test_a_body_that_stops_coming_gives_its_place_back(
    planted: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SILENCE_SECONDS", 0.1)
    before = open_files()

    async def stopping(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        await asyncio.Event().wait()

    for parts in ((), (b"x" * 100, b"x" * SMALL_BYTES)):
        answer = await planted.post(
            "/files", content=stopping(*parts), headers={"content-length": str(SMALL_BYTES + 200)}
        )
        assert kind(answer) == (408, "body-stopped")
    whole = b"x" * (SMALL_BYTES + 1)
    answers = await asyncio.gather(*(planted.post("/files", content=whole) for _ in range(MOST_UPLOADS)))
    assert [answer.status_code for answer in answers] == [201] * MOST_UPLOADS
    assert open_files() == before


async def test_no_body_is_an_empty_one(planted: httpx.AsyncClient) -> None:
    assert is_whole(await planted.post("/sums"), b"")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", " GZIP "])
async def test_gzip_is_unpacked(planted: httpx.AsyncClient, coding: str) -> None:
    packed = gzip.compress(b"0123456789" * 1_000)
    headers = {"content-encoding": coding}
    assert is_whole(await planted.post("/sums", content=packed, headers=headers), b"0123456789" * 1_000)
    bytewise = pieces(*(packed[i : i + 1] for i in range(len(packed))))
    assert is_whole(await planted.post("/sums", content=bytewise, headers=headers), b"0123456789" * 1_000)


async def test_gzip_of_several_members_is_one_body(planted: httpx.AsyncClient) -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    assert is_whole(await planted.post("/sums", content=packed, headers=GZIP), b"onetwo")


async def test_members_have_an_end(planted: httpx.AsyncClient) -> None:
    empty = gzip.compress(b"")
    assert is_whole(await planted.post("/sums", content=empty * MOST_MEMBERS, headers=GZIP), b"")
    answer = await planted.post("/sums", content=empty * (MOST_MEMBERS + 1), headers=GZIP)
    assert kind(answer) == (400, "broken-body")
    assert "members" in answer.json()["detail"]


async def test_the_limit_is_for_what_a_body_unpacks_to(planted: httpx.AsyncClient) -> None:
    most = b"x" * LIMIT_BYTES
    assert is_whole(await planted.post("/sums", content=gzip.compress(most), headers=GZIP), most)
    answer = await planted.post("/sums", content=gzip.compress(most + b"x"), headers=GZIP)
    assert kind(answer) == (413, "body-too-large")


async def test_packing_that_unpacks_to_nothing_is_counted_too(planted: httpx.AsyncClient) -> None:
    packing = zlib.compressobj(wbits=31)
    nothing = packing.compress(b"") + b"".join(packing.flush(zlib.Z_FULL_FLUSH) for _ in range(3))
    idle = nothing + b"\0\0\0\xff\xff" * (LIMIT_BYTES // 5)
    assert kind(await planted.post("/sums", content=pieces(idle), headers=GZIP)) == (413, "body-too-large")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"plain text",
        gzip.compress(b"text")[:-1],
        gzip.compress(b"text")[:-8] + b"12345678",
        gzip.compress(b"text") + b"rest",
        gzip.compress(b"text") + gzip.compress(b"more")[:5],
        zlib.compress(b"text"),
    ],
    ids=["empty", "plain", "truncated", "wrong sum", "rest", "half a member", "zlib"],
)
async def test_what_does_not_unpack_is_refused(planted: httpx.AsyncClient, packed: bytes) -> None:
    assert kind(await planted.post("/sums", content=packed, headers=GZIP)) == (400, "broken-body")


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "gzip, gzip", "nonsense"])
async def test_another_coding_is_not_unpacked(planted: httpx.AsyncClient, coding: str) -> None:
    answer = await planted.post("/sums", content=b"x", headers={"content-encoding": coding})
    assert kind(answer) == (415, "unknown-coding")
    assert (answer.json()["accepted"], answer.headers["accept-encoding"]) == (["gzip"], "gzip")


async def test_codings_in_two_headers_are_not_unpacked(planted: httpx.AsyncClient) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "br")]
    answer = await planted.post("/sums", content=gzip.compress(b"x"), headers=headers)
    assert kind(answer) == (415, "unknown-coding")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ('application/json;charset="UTF8"', 201),
        ("text/plain", 201),
        ("application/json; charset=koi8-r", 400),
        ("application/json; x=y; charset=utf-16", 400),
    ],
)
async def test_json_has_one_charset(planted: httpx.AsyncClient, content_type: str, status: int) -> None:
    answer = await planted.post("/sums", content=b"{}", headers={"content-type": content_type})
    assert answer.status_code == status
    assert status == 201 or kind(answer) == (400, "unknown-charset")


async def test_a_bomb_is_stopped_while_it_unpacks(db: Database) -> None:
    """10 MB that would unpack to 10 GB: next to nothing is held in memory, and others are served meanwhile."""
    packing = zlib.compressobj(9, wbits=31)
    start = packing.compress(b"\0" * 1_000_000) + packing.flush(zlib.Z_FULL_FLUSH)
    again = packing.compress(b"\0" * 1_000_000) + packing.flush(zlib.Z_FULL_FLUSH)
    bomb = start + again * 10_000
    assert len(bomb) < 15_000_000
    transport = httpx.ASGITransport(application(_modules(), db))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        tracemalloc.start()
        try:
            served = 0
            blast = asyncio.ensure_future(client.post("/imports", content=bomb, headers=GZIP))
            while not blast.done():
                assert (await client.get("/health")).status_code == 200
                served += 1
                await asyncio.sleep(0.001)  # in one process nothing else makes the client wait
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kind(await blast) == (413, "body-too-large")
    assert served > 10
    assert peak < 40_000_000  # the bomb itself, and the pieces that go to the file


def _modules() -> Any:
    from kinfolk.app import MODULES

    return MODULES


@pytest.mark.parametrize(("path", "half"), [("/sums", b"half a"), ("/files", b"x" * (SMALL_BYTES + 1))])
async def test_a_client_that_hangs_up_is_nobodys_accident(
    db: Database, lines: list[dict[str, Any]], path: str, half: bytes
) -> None:
    before = open_files()
    app = application([PLANTED], db)
    messages = [
        {"type": "http.request", "body": half, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"kinfolk"), (b"content-length", b"%d" % (2 * len(half)))],
        "server": ("kinfolk", 80),
        "client": None,
        "state": {},
    }
    await app(scope, receive, send)
    assert sent == []
    assert open_files() == before
    assert [(line["status"], line["levelno"], line["error"]) for line in lines] == [(499, 20, None)]


async def test_a_larger_body_is_read_elsewhere(planted: httpx.AsyncClient) -> None:
    here = await planted.post("/readers", content=b"x" * READ_HERE_BYTES)
    assert here.json() == [READ_HERE_BYTES, True, 1]
    for size in (READ_HERE_BYTES + 1, SMALL_BYTES + 1):
        assert (await planted.post("/readers", content=b"x" * size)).json() == [size, False, 1]


@pytest.mark.parametrize("headers", [{}, GZIP], ids=["plain", "gzip"])
async def test_a_large_body_lies_in_a_file_without_a_name(planted: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for size, links in [(SMALL_BYTES, None), (SMALL_BYTES + 1, 0), (FILE_LIMIT_BYTES, 0)]:
        body = (random.Random(size).randbytes(9_973) * 1_000)[:size]
        sent = gzip.compress(body, 1) if headers else body
        answer = await planted.post("/files", content=sent, headers=headers)
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"size": size, "sha256": hashlib.sha256(body).hexdigest(), "links": links}
        in_pieces = pieces(*(sent[i : i + 70_000] for i in range(0, len(sent), 70_000)))
        assert (await planted.post("/files", content=in_pieces, headers=headers)).json() == answer.json()


@pytest.mark.parametrize("end", ["too large", "broken"])
async def test_a_large_body_that_is_refused_leaves_no_file(planted: httpx.AsyncClient, end: str) -> None:
    before = open_files()
    large = gzip.compress(b"x" * (SMALL_BYTES + PIECE_BYTES), 1)

    async def sent() -> AsyncIterator[bytes]:
        yield large
        assert len(open_files()) == len(before) + 1
        yield large if end == "too large" else b"broken"

    refused = (413, "body-too-large") if end == "too large" else (400, "broken-body")
    assert kind(await planted.post("/files", content=sent(), headers=GZIP)) == refused
    assert open_files() == before


async def test_so_many_uploads_and_no_more(db: Database) -> None:
    """One more is told before its body is read, or as soon as it proves to be large; a small one is always taken."""
    transport = httpx.ASGITransport(application([PLANTED], db, most_uploads=2))  # type: ignore[arg-type]
    large = b"x" * (SMALL_BYTES + 1)
    goes_on = asyncio.Event()
    waiting = 0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal waiting
        yield large
        waiting += 1
        await goes_on.wait()

    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        told = {"content-length": str(len(large))}
        first = [asyncio.ensure_future(client.post("/files", content=slow())) for _ in range(2)]
        while waiting < 2:
            await asyncio.sleep(0.01)
        for content, headers in [(b"not even read", told), (pieces(large), {})]:
            answer = await client.post("/files", content=content, headers=headers)
            assert kind(answer) == (503, "too-many-uploads")
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.post("/files", content=large[:SMALL_BYTES])).status_code == 201
        too_large = {"content-length": str(FILE_LIMIT_BYTES + 1)}
        assert kind(await client.post("/files", content=b"x", headers=too_large)) == (413, "body-too-large")
        goes_on.set()
        assert [(await one).status_code for one in first] == [201, 201]
        assert (await client.post("/files", content=large, headers=told)).status_code == 201


async def test_where_there_is_no_room_nothing_is_taken(
    planted: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    large = b"x" * (SMALL_BYTES + 1)
    with monkeypatch.context() as planting:
        planting.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        answer = await planted.post("/files", content=large)
    assert kind(answer) == (503, "no-room")
    assert int(answer.headers["retry-after"]) > 0
    assert "No such file" in lines[-1]["reason"]
    assert "nowhere" not in answer.text
    assert (await planted.post("/files", content=large)).status_code == 201


async def test_who_gives_up_while_the_disk_is_slow_loses_nothing_of_others(
    planted: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may not be closed while a thread writes: its number would soon be somebody else's."""
    before = open_files()
    is_slow = threading.Event()
    took = []

    def slow(self: Body, pieces: Any) -> None:
        append(self, pieces)
        is_slow.set()
        time.sleep(0.3)
        took.append(len(open_files()))

    append = Body._append
    with monkeypatch.context() as planting:
        planting.setattr(Body, "_append", slow)
        asking = asyncio.ensure_future(planted.post("/files", content=b"x" * (SMALL_BYTES + 1)))
        await asyncio.to_thread(is_slow.wait)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert took == [len(before) + 1]
    assert open_files() == before


async def test_a_document_is_read_in_its_shape(planted: httpx.AsyncClient) -> None:
    thing = {"parts": [{"word": "слово"}], "sizes": [2]}
    answer = await planted.put("/things/1", content=json.dumps(thing))
    assert (answer.status_code, answer.json()) == (200, thing)
    answer = await planted.put("/things/1", content=b'{"parts": [{"word": "x"}], "sizes": [2, 3]}')
    assert kind(answer) == (400, "invalid-document")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/parts/0/word", "/sizes/1"]
