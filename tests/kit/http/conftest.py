"""An application of routes that show what a route is given, in this process."""

import hashlib
import os
from collections.abc import AsyncIterator
from mmap import mmap
from typing import Annotated, Any

import httpx
import pytest
from litestar.types import Receive, Scope, Send
from msgspec import Meta, Struct

from kinfolk.kit import problems
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.http import Answer, Header, Request, delete, get, patch, post, put
from kinfolk.kit.http.application import application
from kinfolk.kit.module import Module

LIMIT_BYTES = 100_000
FILE_LIMIT_BYTES = 9_000_000
LONG = "Ж" * 40_000
SECRET = "the secret of the failing route"


class NoSuchThing(problems.NotFound):
    """There is no such thing."""


class Part(Struct):
    word: Annotated[str, Meta(min_length=2, max_length=5)]


class Thing(Struct, forbid_unknown_fields=True):
    """A thing of parts."""

    parts: Annotated[list[Part], Meta(min_length=1, max_length=3)]
    sizes: list[Annotated[int, Meta(ge=1, le=9, multiple_of=2)]] = []


class Sum(Struct):
    size: int
    sha256: str


@post("/sums", takes=Thing, gives={201: Sum}, refuses=[problems.InvalidDocument])
async def post_sum(request: Request) -> Answer:
    """Tell size and hash of the body."""
    body = await request.bytes(LIMIT_BYTES)
    return Answer.of(Sum(len(body), hashlib.sha256(body).hexdigest()), 201)


@post("/files", gives={201: Sum}, refuses=[problems.Unavailable])
async def post_file(request: Request) -> Answer:
    """Tell size and hash of a body that may be large, and whether it lay in a file."""
    async with request.whole_body(FILE_LIMIT_BYTES) as body:
        file = None if body.is_small else await body.file()
        whole = body.small if file is None else os.pread(file.fileno(), FILE_LIMIT_BYTES, 0)
        links = None if file is None else os.fstat(file.fileno()).st_nlink
    return Answer.of({"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "links": links}, 201)


def length_of(document: bytes | mmap) -> tuple[int, bool]:
    return len(document), isinstance(document, bytes)


async def told(conn: Connection, *found: Any) -> list[Any]:
    return [*found, await conn.fetchval("SELECT 1")]


@post("/readers", gives={200: Sum})
async def post_reader(request: Request) -> Answer:
    """Tell how the body was read."""
    async with request.whole_body(FILE_LIMIT_BYTES) as body:
        return Answer.of(await request.aside(body, length_of, told, may_repeat=True))


@put("/things/{thing_id}", takes=Thing, gives={200: Thing})
async def put_thing(request: Request) -> Answer:
    """Keep a thing.

    It is not really kept.
    """
    request.number("thing_id", NoSuchThing)
    return Answer.of(await request.document(Thing))


@get(
    "/things/{thing_id}",
    gives={200: Thing, 304: None},
    refuses=[NoSuchThing],
    reads=[Header("If-None-Match", "Seen.", '"v0"')],
)
async def get_thing(request: Request) -> Answer:
    """A long thing."""
    request.number("thing_id", NoSuchThing)
    tag = '"v1"'
    if request.has_seen(tag):
        return Answer(status=304, headers={"etag": tag})
    return Answer.of({"long": LONG[: int(request.query_params.get("size", "40000"))]}, headers={"etag": tag})


@patch("/things/{thing_id}", gives={200: Thing})
async def patch_thing(request: Request) -> Answer:
    """Change a thing."""
    request.require('"v1"')
    return Answer.of({"key": request.idempotency_key(), "place": request.place("/things/1")})


@delete("/things/{thing_id}", gives={204: None})
async def delete_thing(_request: Request) -> Answer:
    """Forget a thing."""
    return Answer(status=204)


@get("/failing", gives={200: "text/plain"})
async def get_failing(_request: Request) -> Answer:
    """Fail before the answer."""
    raise RuntimeError(SECRET)


class HalfAnAnswer(Answer):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start(scope, [(b"content-length", b"20")], 20))
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError(SECRET)


@get("/failing-late", gives={200: "text/plain"})
async def get_failing_late(_request: Request) -> Answer:
    """Fail in the middle of the answer."""
    return HalfAnAnswer()


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    word: Annotated[str, Meta(min_length=2, description="What to look for.")]
    most: Annotated[int, Meta(ge=1, le=9)] = 5
    kind: str | None = None


@get("/search", asks=Search, gives={200: Search})
async def get_search(request: Request) -> Answer:
    """Tell what was asked."""
    return Answer.of(request.asked(Search))


@get("/picture", gives={200: "image/png"})
async def get_picture(_request: Request) -> Answer:
    """What is packed already."""
    return Answer(b"\0" * 5_000, media_type=b"image/png")


PLANTED = Module(
    name="planted",
    description="Routes for tests.",
    is_at_root=True,
    routes=[
        post_sum,
        post_file,
        post_reader,
        put_thing,
        get_thing,
        patch_thing,
        delete_thing,
        get_failing,
        get_failing_late,
        get_search,
        get_picture,
    ],
)


@get("/newcomer", gives={200: "text/plain"})
async def get_newcomer(_request: Request) -> Answer:
    """A route of a module that came after `/api/v1`."""
    return Answer(b"here", media_type=b"text/plain")


NEWCOMER = Module(name="newcomer", description="A module at home only.", routes=[get_newcomer])


@pytest.fixture(scope="session")
async def planted(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the planted routes."""
    transport = httpx.ASGITransport(application([PLANTED, NEWCOMER], db), raise_app_exceptions=False)  # type: ignore[arg-type]
    headers = {"accept-encoding": "identity"}
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", headers=headers) as client:
        yield client


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The lines that are written to the log."""
    written: list[dict[str, Any]] = []

    def write(event: dict[str, Any], level: int = 20, error: BaseException | None = None) -> None:
        written.append({"levelno": level, "error": error, **event})

    monkeypatch.setattr("kinfolk.kit.log.write_line", write)
    return written
