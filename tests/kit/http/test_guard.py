"""The guard: who passes it, and that every route does."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.memory_tokens import MemoryTokens

from kinfolk.app import MODULES
from kinfolk.kit.auth import Auth, Who
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application, every_route, framework
from kinfolk.kit.http.guard import address_of, is_from_here, token_of
from kinfolk.kit.proxies import Proxies
from kinfolk.rules import RULES


@pytest.fixture
async def guarded(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole application that asks who it is: tokens are called as the roles."""
    tokens = MemoryTokens()
    for number, role in enumerate(["supplier", "analyst", "admin"], 1):
        await tokens.keep(None, role, Who(number, role), 60)  # type: ignore[arg-type]
    app = application(MODULES, db, auth=Auth(RULES, tokens))
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        yield client


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        (None, 401, "no-token"),
        ("Basic YTpi", 401, "no-token"),
        ("Bearer", 401, "no-token"),
        ("Bearer admin admin", 401, "no-token"),
        ("Bearer admin, Bearer admin", 401, "no-token"),
        ("Bearer\tadmin", 401, "no-token"),
        ("Bearer nonsense", 401, "dead-token"),
        ("Bearer supplier", 403, "not-yours"),
        ("bearer  analyst \t", 200, None),
        ("Bearer admin", 200, None),
    ],
)
async def test_who_may_look_at_students(guarded: Any, words: str | None, status: int, kind: str | None) -> None:
    answer = await guarded.get("/api/v1/students", headers={} if words is None else {"authorization": words})
    assert answer.status_code == status
    if kind is not None:
        assert answer.json()["type"] == f"/problems/{kind}"
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_who_shows_two_tokens_shows_none(guarded: Any) -> None:
    for other in ("Bearer nonsense", "Bearer admin", "Basic YTpi"):
        for both in ((other, "Bearer admin"), ("Bearer admin", other)):
            answer = await guarded.get("/api/v1/students", headers=[("authorization", words) for words in both])
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/no-token"), both


async def test_what_is_open_is_answered_to_anybody_and_what_is_not_there_is_not(guarded: Any) -> None:
    for path in ("/", "/health", "/docs", "/schema/openapi.json", "/problems/no-token"):
        assert (await guarded.get(path)).status_code == 200, path
    assert (await guarded.options("/api/v1/students")).status_code == 204
    assert (await guarded.head("/api/v1/students")).status_code == 401
    assert (await guarded.get("/nowhere")).status_code == 404
    assert (await guarded.put("/api/v1/students")).status_code == 405


async def test_a_route_without_a_rule_is_not_served(db: Database) -> None:
    rules = {name: rule for name, rule in RULES.items() if name != "GET /api/v1/students"}
    with pytest.raises(LookupError, match="who may GET /api/v1/students: see"):
        framework(MODULES, db, auth=Auth(rules, MemoryTokens()))
    framework(MODULES, db, auth=Auth(RULES, MemoryTokens()))


async def test_no_rule_is_for_nothing() -> None:
    made = framework(MODULES, Database("postgresql://nowhere"))
    assert sorted(RULES) == every_route(made)


def test_a_token_may_come_with_a_web_socket_in_other_ways() -> None:
    def scope(path: str, query: bytes = b"", **headers: bytes) -> dict[str, Any]:
        named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        return {"path": path, "headers": named, "query_string": query}

    assert token_of(scope("/ws", b"token=abc")) == "abc"
    assert token_of(scope("/", b"token=abc")) is None
    assert token_of(scope("/ws", sec_websocket_protocol=b"bearer, abc")) == "abc"
    assert token_of(scope("/ws", sec_websocket_protocol=b"chat")) is None
    assert token_of(scope("/", sec_websocket_protocol=b"bearer, abc")) is None
    assert token_of(scope("/", authorization=b"Bearer " + b"a" * 201)) is None


def test_who_asks_from_here() -> None:
    def scope(address: Any, *headers: bytes) -> dict[str, Any]:
        return {"client": address, "headers": [(name, b"x") for name in headers]}

    assert is_from_here(scope(("127.0.0.1", 1)))
    assert is_from_here(scope(("::1", 1), b"accept"))
    assert not is_from_here(scope(("127.0.0.1", 1), b"x-forwarded-for"))
    assert not is_from_here(scope(("192.0.2.1", 1)))
    assert not is_from_here(scope(None))
    assert not is_from_here(scope(("testclient", 1)))


def test_a_proxy_that_is_trusted_is_believed_whom_it_asks_for() -> None:
    def scope(address: Any, *forwarded: bytes) -> dict[str, Any]:
        headers = [(b"accept", b"*/*"), *((b"x-forwarded-for", value) for value in forwarded)]
        return {"client": address, "headers": headers}

    here, there = Proxies(), Proxies("192.0.2.8")
    assert address_of(scope(("127.0.0.1", 1), b"10.9.9.9", b"10.9.9.8, 192.0.2.7"), here) == "192.0.2.7"
    assert address_of(scope(None, b"192.0.2.7"), here) == "192.0.2.7"
    assert address_of(scope(("192.0.2.8", 1), b"192.0.2.7"), here) == "192.0.2.8"
    assert address_of(scope(("192.0.2.8", 1), b"192.0.2.7"), there) == "192.0.2.7"
    assert address_of(scope(("127.0.0.1", 1)), here) == "127.0.0.1"
    assert address_of(scope(None), here) == ""
