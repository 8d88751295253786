"""Those who listen: who is let in, who is told what, and who has to go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from tests.listeners import SECONDS, end_of, heard, heard_until, listening, served
from tests.memory_tokens import MemoryTokens
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kinfolk.kit import events
from kinfolk.kit.auth import Auth, TokensAway, Who
from kinfolk.kit.db import Database, DatabaseAway
from kinfolk.kit.http import audience, websocket
from kinfolk.kit.http.application import application
from kinfolk.rules import EVENTS, RULES

LISTENERS = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


class Tokens(MemoryTokens):
    """Those of this file: each is called as its role. `away` is what looking up raises."""

    def __init__(self) -> None:
        super().__init__()
        self.away: Exception | None = None

    async def look_up(self, token: str) -> Who | None:
        if self.away is not None:
            raise self.away
        return await super().look_up(token)

    async def add(self, token: str, who: Who) -> None:
        await self.keep(None, token, who, 600)


@pytest.fixture
async def tokens() -> Tokens:
    tokens = Tokens()
    for number, role in enumerate(["supplier", "analyst", "admin"], 1):
        await tokens.add(role, Who(number, role))  # type: ignore[arg-type]
    await tokens.add("other", Who(4, "supplier"))
    return tokens


@pytest.fixture
async def place(db: Database, tokens: Tokens) -> AsyncIterator[str]:
    """An application that asks who it is, and is quick about who may stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audience, "ROUND_SECONDS", 0.02)
        patch.setattr(audience, "CONFIRMED_SECONDS", 0.0)
        async with served(application([], db, auth=Auth(RULES, tokens, events=EVENTS), most_sockets=5)) as place:
            yield place


async def tell(db: Database, *names: str, owner: str | None = None) -> None:
    async with db.transaction() as conn:
        for name in names:
            await events.tell(conn, name, owner=owner)


async def names(ears: ClientConnection, last: str) -> list[str]:
    return [event["name"] for event in await heard_until(ears, last)]


@pytest.mark.parametrize(
    "how",
    [
        {"query": "?token=admin"},
        {"query": "?other=1&token=admin"},
        {"subprotocols": ["bearer", "admin"]},
        {"additional_headers": {"authorization": "Bearer admin"}},
    ],
    ids=str,
)
async def test_a_token_may_be_shown_in_several_ways(place: str, how: dict[str, Any]) -> None:
    async with listening(place, origin="https://elsewhere.example", **how) as ears:  # a token is proof enough
        assert ears.subprotocol == ("bearer" if "subprotocols" in how else None)
        await ears.send('{"say":"here"}')
        assert await heard(ears) == {"echo": "here"}


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({}, 401),
        ({"query": "?token="}, 401),
        ({"query": "?token=nonsense"}, 401),
        ({"subprotocols": ["bearer", "nonsense"]}, 401),
        ({"subprotocols": ["admin"]}, 401),
        ({"additional_headers": {"authorization": "Bearer nonsense"}}, 401),
        ({"query": "/?token=admin"}, 404),
    ],
    ids=str,
)
async def test_who_has_none_is_refused_before_it_is_a_websocket(place: str, how: dict[str, Any], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with listening(place, **how):
            pass
    assert refused.value.response.status_code == status
    assert ("www-authenticate" in refused.value.response.headers) == (status == 401)


async def test_while_tokens_cannot_be_looked_up_nobody_is_let_in(place: str, tokens: Tokens) -> None:
    tokens.away = TokensAway()
    with pytest.raises(InvalidStatus) as refused:
        async with listening(place, query="?token=admin"):
            pass
    assert refused.value.response.status_code == 503


async def test_each_role_is_told_what_its_rules_say(db: Database, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "MOST_AT_A_TIME", 2)
    last = "job.done"
    async with (
        listening(place, query="?token=supplier") as supplier,
        listening(place, query="?token=other") as other,
        listening(place, query="?token=analyst") as analyst,
        listening(place, query="?token=admin") as admin,
    ):
        await tell(db, "message.parked")
        assert await names(admin, "message.parked") == ["message.parked"]
        await tell(db, "import.created", "message.parked", "unruled.event", owner="user:1")
        await tell(db, "citizen.changed", owner="user:4")
        await tell(db, "job.queued")
        for owner in ("user:1", "user:4"):
            await tell(db, last, owner=owner)
        assert await names(supplier, last) == ["import.created", last]
        assert await names(other, last) == ["citizen.changed", last]
        assert await names(analyst, last) == ["import.created", "citizen.changed", "job.queued", last]
        everything = ["import.created", "message.parked", "unruled.event", "citizen.changed", "job.queued", last]
        assert await names(admin, last) == everything


def test_every_event_has_a_rule_that_lets_administrators_see_it() -> None:
    assert {rule.admin for rule in EVENTS.values()} == {"all"}
    assert not any(rule.is_open or rule.is_open_on_loopback for rule in EVENTS.values())


async def test_a_revoked_token_ends_its_sockets_and_no_others(db: Database, place: str, tokens: Tokens) -> None:
    async with (
        listening(place, query="?token=supplier") as gone,
        listening(place, query="?token=supplier") as gone_too,
        listening(place, query="?token=admin") as stays,
    ):
        await tokens.revoke(None, "supplier")
        assert [await end_of(gone), await end_of(gone_too)] == [4401, 4401]
        await tell(db, "job.done")
        assert await names(stays, "job.done") == ["job.done"]


async def test_whose_role_changes_has_to_come_again(place: str, tokens: Tokens) -> None:
    async with listening(place, query="?token=admin") as ears:
        await tokens.add("admin", Who(3, "analyst"))
        assert await end_of(ears) == 4401


@pytest.mark.parametrize("away", [TokensAway(), DatabaseAway(), TimeoutError()], ids=repr)
async def test_whose_token_cannot_be_looked_up_stays_for_a_while_and_not_longer(
    db: Database, place: str, tokens: Tokens, away: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(place, query="?token=admin") as ears:
        tokens.away = away
        await tell(db, "job.done")
        assert await names(ears, "job.done") == ["job.done"]
        monkeypatch.setattr(audience, "UNCONFIRMED_SECONDS", 0.1)
        assert await end_of(ears) == 1013


def test_the_seconds_of_a_revoked_token_add_up() -> None:
    rounds = audience.ROUND_SECONDS + audience.LOOK_UP_SECONDS
    assert max(audience.CONFIRMED_SECONDS + rounds, audience.UNCONFIRMED_SECONDS) + rounds < 10


async def test_an_accident_lets_everybody_go(
    db: Database, place: str, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    async with listening(place, query="?token=admin") as ears:
        with monkeypatch.context() as broken:
            broken.setattr(websocket.Socket, "look", lambda _self: 1 / 0)
            assert await end_of(ears) == 1011
    assert [type(line["error"]) for line in lines if line["event"] == "audience_died"] == [ZeroDivisionError]
    async with listening(place, query="?token=admin") as ears:
        await tell(db, "job.done")
        assert await names(ears, "job.done") == ["job.done"]


async def test_so_does_one_of_handing_out(
    db: Database, place: str, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    async with listening(place, query="?token=admin") as ears:
        with monkeypatch.context() as broken:
            broken.setattr(websocket.Socket, "give", lambda *_words: 1 / 0)
            await tell(db, "job.done")
            assert await end_of(ears) == 1011
    assert [line["sockets"] for line in lines if line["event"] == "audience_died"] == [1]


async def test_it_listens_as_long_as_somebody_does(db: Database, place: str) -> None:
    async def count() -> int:
        async with db.connection() as conn:
            return int(await conn.fetchval(f"SELECT count(*) {LISTENERS}"))

    async def until(wanted: int) -> None:
        async with asyncio.timeout(SECONDS):
            while await count() != wanted:
                await asyncio.sleep(0.02)

    await until(0)
    for _ in range(2):
        async with listening(place, query="?token=admin"), listening(place, query="?token=admin"):
            assert await count() == 1
        await until(0)


async def test_what_may_have_been_missed_is_told(db: Database, place: str) -> None:
    async with listening(place, query="?token=supplier") as ears:
        async with db.connection() as conn:
            await conn.fetch(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
        assert await names(ears, "events.missed") == ["events.missed"]
        await tell(db, "job.done", owner="user:1")
        assert await names(ears, "job.done") == ["job.done"]


async def test_more_than_can_be_handed_out_is_told_as_missed(
    db: Database, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "MOST_WAITING_BYTES", 1_000)
    monkeypatch.setattr(audience, "MOST_BATCH_BYTES", 150)
    async with listening(place, query="?token=admin") as ears:
        await tell(db, *(f"job.{number}" for number in range(200)))
        before = await names(ears, "events.missed")
        assert before == [*(f"job.{number}" for number in range(len(before) - 1)), "events.missed"]
        assert 5 < len(before) < 200
        await tell(db, "job.done")
        assert (await names(ears, "job.done"))[-1] == "job.done"


async def test_only_so_many_may_listen(place: str) -> None:
    ears = [listening(place, query="?token=admin") for _ in range(5)]
    for each in ears:
        await each.__aenter__()
    with pytest.raises(InvalidStatus) as refused:
        async with listening(place, query="?token=admin"):
            pass
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"]
    for each in ears:
        await each.__aexit__(None, None, None)


async def test_one_user_does_not_take_all(db: Database, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "MOST_OF_ONE_USER", 2)
    async with listening(place, query="?token=admin") as stays, listening(place, query="?token=other") as other:
        async with listening(place, query="?token=admin"), listening(place, query="?token=admin") as third:
            assert await end_of(third) == 4429
            assert third.close_reason == "you listen at 2 sockets already"
            await tell(db, "job.done", owner="user:4")
            assert await names(stays, "job.done") == await names(other, "job.done") == ["job.done"]
        async with asyncio.timeout(SECONDS):
            while await is_turned_away(place):  # until the end of the second one is noticed
                await asyncio.sleep(0.02)


async def is_turned_away(place: str) -> bool:
    async with listening(place, query="?token=admin") as ears:
        await ears.send('{"say":"here"}')
        try:
            return bool(await heard(ears) != {"echo": "here"})
        except ConnectionClosed:
            return True


async def test_what_the_system_lets_open_is_not_used_up(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "getrlimit", lambda _which: (audience.SPARE_FILES, 1))
    with pytest.raises(InvalidStatus) as refused:
        async with listening(place, query="?token=admin"):
            pass
    assert refused.value.response.status_code == 503


async def test_where_nothing_can_be_heard_nobody_listens_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "PATIENCE_SECONDS", 0.1)
    async with Database("postgresql://nobody@127.0.0.1:1/nothing") as db, served(application([], db)) as place:
        with pytest.raises(InvalidStatus) as refused:
            async with listening(place):
                pass
        assert refused.value.response.status_code == 503
        assert b"events-away" in refused.value.response.body


HEADERS = {
    "upgrade": "websocket",
    "connection": "upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 101),
        ({"upgrade": ""}, 426),
        ({"upgrade": "h2c"}, 426),
        ({"upgrade": "websocket, h2c"}, 426),
        ({"connection": "keep-alive"}, 426),
        ({"sec-websocket-version": "8"}, 426),
        ({"sec-websocket-key": ""}, 400),
        ({"sec-websocket-key": "AAAA"}, 400),
        ({"sec-websocket-key": "?" * 24}, 400),
        ({"content-length": "1"}, 400),
        ({"origin": "http://kinfolk"}, 101),
        ({"origin": "https://KINFOLK"}, 101),
        ({"origin": "http://kinfolk.example"}, 403),
        ({"origin": "http://kinfolk:81"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
    ],
    ids=str,
)
async def test_how_it_is_asked_for_where_nobody_is_asked_who_it_is(
    db: Database, changed: dict[str, str], status: int
) -> None:
    async with served(application([], db)) as place:
        assert await answered(place, HEADERS | changed) == status


async def answered(place: str, headers: dict[str, str], method: str = "GET") -> int:
    host, port = place.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} /ws HTTP/1.1", "Host: kinfolk", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", "x" * int(headers.get("content-length", "0"))]).encode())
    async with asyncio.timeout(SECONDS):
        line = await reader.readline()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return int(line.split()[1])


async def test_other_requests_are_answered_as_ever(db: Database) -> None:
    async with served(application([], db)) as place:
        assert await answered(place, HEADERS, "HEAD") == 426
        assert await answered(place, HEADERS, "POST") == 405
        assert await answered(place, HEADERS, "OPTIONS") == 204
        async with httpx.AsyncClient(base_url=f"http://{place}") as client:
            for _ in range(2):  # on one connection
                assert (await client.get("/health", headers=HEADERS)).status_code == 200
    transport = httpx.ASGITransport(application([], db))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        assert (await client.get("/ws", headers=HEADERS)).status_code == 426, "a server that cannot switch"


async def test_who_hangs_up_during_the_handshake_is_nobody(
    db: Database, place: str, tokens: Tokens, lines: list[dict[str, Any]]
) -> None:
    looked_up, go_on = asyncio.Event(), asyncio.Event()
    found = Tokens.look_up

    async def slow(token: str) -> Who | None:
        looked_up.set()
        await go_on.wait()
        return await found(tokens, token)

    tokens.look_up = slow  # type: ignore[method-assign]
    host, port = place.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = [f"GET /ws?token=admin HTTP/1.1\r\nHost: {place}", *(f"{name}: {HEADERS[name]}" for name in HEADERS)]
    writer.write("\r\n".join([*head, "", ""]).encode())
    async with asyncio.timeout(SECONDS):
        await looked_up.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        go_on.set()
        while not any(line["event"] == "request" for line in lines):
            await asyncio.sleep(0.01)
    assert not any(line["event"] == "socket" for line in lines)
