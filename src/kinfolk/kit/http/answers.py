"""What a route reads and what it returns."""

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import litestar
import msgspec
from litestar.types import Receive, Scope, Send

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import Auth, Who
from kinfolk.kit.cache import Cache, Kept
from kinfolk.kit.db import Database
from kinfolk.kit.documents import read_flat, read_json
from kinfolk.kit.http import compression
from kinfolk.kit.http.bodies import Body, Uploads, read_body, whole_body
from kinfolk.kit.http.guard import address_of, admitted, token_of
from kinfolk.kit.pool import Between, Pool, nothing

T = TypeVar("T")
Bytes: TypeAlias = bytes  # Request has a method of that name

LARGEST_ID = 2**63 - 1
LARGEST_DOCUMENT_BYTES = 1_048_576
READ_HERE_BYTES = 262_144  # the slow way through a wrong document of this size holds the event loop for some 25 ms
JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_TAG = re.compile(r'[\s,]*(W/)?"([^"]*)"\s*(?=,|$)')
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


class StaleTag(problems.PreconditionFailed):
    """The resource is not in the state that If-Match or If-None-Match asks for."""


class InvalidQuery(problems.InvalidDocument):
    """The parameters of the query break the rules."""


class UnreadableHeader(problems.BadInput):
    """A header of the request cannot be understood."""


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list by id."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000, description="How many at the most.")] = 100
    after: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_ID, description="The id of the last one already seen.")] = 0


class Result(msgspec.Struct, Generic[T], kw_only=True):
    """What was asked for, as it now stands."""

    success: Annotated[bool, msgspec.Meta(examples=[True])] = True
    result: T


class Answer:
    """A status, headers and a body of bytes; an ASGI application by itself."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, body: bytes = b"", status: int = 200, *, media_type: bytes = JSON, headers: dict[str, str] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = []
        if body:
            self.headers.append((b"content-type", media_type))
        if status not in (101, 204, 304):
            self.headers.append((b"content-length", b"%d" % len(body)))
        if headers:
            self.headers += [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    @classmethod
    def of(cls, value: Any, status: int = 200, *, headers: dict[str, str] | None = None) -> "Answer":
        """`value` as JSON."""
        return cls(msgspec.json.encode(value), status, headers=headers)

    @classmethod
    def refusing(cls, problem: problems.Problem) -> "Answer":
        return cls(
            msgspec.json.encode(problem.body()),
            problem.status,
            media_type=PROBLEM_JSON,
            headers=problem.answer_headers(),
        )

    def to_asgi_response(self, **_options: Any) -> "Answer":
        """What Litestar asks of the answer of an exception handler."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's names
        headers: compression.Headers = self.headers
        body = self.body
        if self.status == 304:
            headers = compression.confirmed(headers, scope["headers"])
        elif len(body) >= compression.LEAST_BYTES and compression.is_packable(headers):
            headers = [*headers, compression.VARY]
            if (coding := compression.preferred(scope["headers"])) is not None:
                body = await self._packed(coding)
                headers = compression.packed(headers, coding, len(body))
        await send(self.start(scope, headers, len(body)))
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def start(self, scope: Scope, headers: compression.Headers, size: int) -> Any:
        """ASGI's message that it begins, with what every answer to this request carries; the log learns of it."""
        state = scope["state"]
        state["status"], state["bytes"] = self.status, size
        return {"type": "http.response.start", "status": self.status, "headers": [*headers, *state.get("headers", ())]}

    async def _packed(self, coding: str) -> bytes:
        return await compression.pack(coding, self.body)


class KeptAnswer(Answer):
    """A kept answer, whose packed forms are kept, too."""

    __slots__ = ("_kept",)

    def __init__(self, kept: Kept) -> None:
        super().__init__(kept.body, headers={"etag": kept.tag})
        self._kept = kept

    async def _packed(self, coding: str) -> bytes:
        return await self._kept.packed(coding, partial(compression.pack, coding))


class Request(litestar.Request[Any, Any, Any]):
    """What came in, with the readings that our routes need."""

    @property
    def db(self) -> Database:
        db: Database = self.app.state.db
        return db

    @property
    def cache(self) -> Cache:
        cache: Cache = self.app.state.cache
        return cache

    @property
    def who(self) -> Who:
        """Who asks; NOBODY where nobody is asked. Only on a route that is not open to anybody."""
        return admitted(self.scope)[0]

    @property
    def auth(self) -> Auth:
        auth: Auth = self.app.state.auth
        return auth

    @property
    def address(self) -> str:
        """Who asks, as an address; of a trusted proxy, whom it asks for. "" where none is known."""
        return address_of(self.scope, self.auth.proxies)

    async def shown_token(self) -> tuple[str, Who]:
        """The token that came with this, and whose it is, whether or not anybody asked. Raises as `Auth.find`."""
        token = token_of(self.scope)
        who = await self.auth.find(token)
        assert token is not None, "or find had raised"
        return token, who

    @property
    def only_of(self) -> int | None:
        """The number of the user who is shown only what is theirs; None for one who is shown all."""
        who, grant = admitted(self.scope)
        return who.user_id if grant == "own" else None

    @property
    def only_by(self) -> str | None:
        """So with what was done by them, as `log.Origin` has it."""
        who, grant = admitted(self.scope)
        return who.by if grant == "own" else None

    def number(self, name: str, absent: type[problems.NotFound]) -> int:
        """An id in the path, 0 … 2^63-1 in its one spelling; anything else names nothing and raises `absent`."""
        text = self.path_params[name]
        if not _NUMBER.fullmatch(text) or int(text) > LARGEST_ID:
            raise absent(**{name: text[:40]})
        return int(text)

    def asked(self, shape: type[T]) -> T:
        """The query as a `shape` of strings and integers; raises InvalidQuery with every bad place."""
        pairs = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return read_flat(pairs, shape, InvalidQuery)

    async def bytes(self, limit_bytes: int) -> bytes:
        """The body, unpacked; raises TooLarge, UnsupportedMediaType and BadInput."""
        return await read_body(self, limit_bytes)

    async def document(self, shape: type[T], limit_bytes: int = LARGEST_DOCUMENT_BYTES) -> T:
        """The body as a `shape`; raises InvalidDocument with every bad place, and what `bytes` raises."""
        return read_json(await self.bytes(limit_bytes), shape)

    def whole_body(self, limit_bytes: int) -> AbstractAsyncContextManager[Body]:
        """The body, unpacked, which may be large; raises what `bytes` raises, and Unavailable."""
        uploads: Uploads = self.app.state.uploads
        return whole_body(self, limit_bytes, uploads)

    async def aside(
        self,
        body: Body,
        read: Callable[[Any], tuple[Any, ...]],
        operation: Callable[..., Awaitable[T]],
        *,
        may_repeat: bool,
        between: Between = nothing,
    ) -> T:
        """`operation(conn, *read(body))` in a transaction: for a small body here, else in the process beside.

        Only there `between` is called. Raises as `Pool.run`.
        """
        if body.is_small and len(body.small) <= READ_HERE_BYTES:
            found = read(body.small)
            async with self.db.transaction() as conn:
                return await operation(conn, *found)
        pool: Pool = self.app.state.pool
        return await pool.run(read, operation, await body.file(), may_repeat=may_repeat, between=between)

    async def note(self, deed: str, **what: Any) -> None:
        """Note in the audit log what is answered by nothing but reading; it stands there before the answer goes out."""
        if (entry := audit.entry(deed, **what)) is not None:
            await self.db.gathered_change(audit.keep_each, entry)

    def place(self, path: str) -> str:
        """`path` on the face that was called: at the root or under `/api/v1`."""
        return f"/api/v1{path}" if self.scope["path"].startswith("/api/v1/") else path

    def idempotency_key(self) -> str | None:
        """The key of this user: two who choose the same do not meet. Raises UnreadableHeader."""
        key = self.headers.get("idempotency-key")
        if key is not None and not _VISIBLE.fullmatch(key):
            raise UnreadableHeader("Idempotency-Key takes 1 to 255 visible ASCII characters")
        by = self.who.by
        return key if key is None or by is None else f"{by} {key}"

    def has_seen(self, tag: str) -> bool:
        """Does If-None-Match name this entity tag, in whatever coding (RFC 9110, 13.1.2)?"""
        header = self.whole_header(b"if-none-match")
        return header is not None and (header == "*" or tag in _tags(header, weak=True))

    @property
    def is_conditional(self) -> bool:
        """Is there a header that `require` looks at?"""
        return "if-match" in self.headers or "if-none-match" in self.headers

    async def answer_unless_seen(self, place: str, tag: str, make: Callable[[], Awaitable[tuple[str, Any]]]) -> Answer:
        """304 if the client has seen what now stands, under `tag`, at this place; else the kept answer, or a new one.

        `make` gives a tag, which may be newer, and what is answered under it as JSON. Places are distinct over all
        modules, and name everything that the answer depends on and its tag does not.
        """
        if self.has_seen(tag):
            return Answer(status=304, headers={"etag": tag})

        async def encoded() -> tuple[str, Bytes]:
            newest, value = await make()
            return newest, msgspec.json.encode(value)

        return KeptAnswer(await self.cache.answer(place, tag, encoded))

    def require(self, *tags: str) -> None:
        """Raise StaleTag if If-Match names none of these entity tags, or If-None-Match one (RFC 9110, 13.1.1, 13.1.2).

        What has several forms, each with its tag, is changed by whoever has seen one of them.
        """
        header = self.whole_header(b"if-match")
        if header is not None and header != "*" and _tags(header, weak=False).isdisjoint(tags):
            raise StaleTag
        if any(map(self.has_seen, tags)):
            raise StaleTag

    def whole_header(self, name: Bytes) -> str | None:
        """A list may come in several headers of one name (RFC 9110, 5.3); None if there is none."""
        found = [value for header, value in self.scope["headers"] if header == name]
        return b",".join(found).decode("latin-1").strip() if found else None


def entity_tag(*parts: object) -> str:
    """A strong entity tag."""
    return '"' + "-".join(str(part) for part in parts) + '"'


def _tags(header: str, *, weak: bool) -> set[str]:
    """The tags of a list, each as it stands for the body without a coding (see compression); none if it is no list."""
    tags = set()
    position = 0
    while match := _TAG.match(header, position):
        position = match.end()
        if weak or not match[1]:
            bare, _, coding = match[2].rpartition(".")
            tags.add(f'"{bare if coding in compression.CODINGS else match[2]}"')
    return set() if header[position:].strip(" ,") else tags
