"""Messages that come twice, cannot be right or are poison, from a sender's, an operator's and a module's side."""

import asyncio
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiormq
import httpx
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from tests.conftest import run_sql
from tests.listeners import listener
from tests.noting_product import MODULE, NOTES, brief, other
from tests.rabbit_client import (
    PARKING,
    QUEUE,
    are_noted,
    are_waiting,
    channel_to,
    consumer,
    consuming_here,
    noted,
    send,
    send_body,
    taken,
    until,
    waiting,
)
from tests.running import Service

from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application
from kinfolk.kit.rabbit import Amqp
from kinfolk.modules import messages

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def notes_url(make_database: Any) -> str:
    url: str = make_database("notes")
    run_sql(url, NOTES)
    return url


@pytest.fixture(scope="module")
def consuming(amqp_url: str, notes_url: str) -> Iterator[Service]:
    with consumer(amqp_url, notes_url) as service:
        yield service


@pytest.fixture
async def channel(amqp_url: str, notes_url: str, consuming: Service) -> AsyncIterator[AbstractChannel]:
    """To the vhost of this file, whose lane is declared and empty; nothing is noted yet."""
    run = asyncio.to_thread(run_sql, notes_url, "TRUNCATE notes", "TRUNCATE inbox")
    await run
    async with channel_to(amqp_url) as channel:
        await channel.queue_purge(PARKING)
        yield channel


@pytest.fixture
async def api(amqp_url: str, notes_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application of the product that takes notes."""
    amqp = Amqp(amqp_url, {"other": amqp_url})
    async with Database(notes_url, size=4) as db:
        transport = httpx.ASGITransport(application([MODULE, messages.MODULE], db, amqp=amqp))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60) as client:
            yield client


async def test_a_message_has_its_effect_once_however_often_it_comes(
    channel: AbstractChannel, notes_url: str, consuming: Service
) -> None:
    for _ in range(3):
        await send(channel, "once", message_id="number-1")
    await send(channel, "another", message_id="number-2")
    await are_noted(notes_url, 2)
    await are_waiting(channel, QUEUE, 0)
    assert await noted(notes_url) == Counter(["once", "another"])


async def test_what_the_sender_calls_it_stands_in_the_line(channel: AbstractChannel, consuming: Service) -> None:
    """The trace of a W3C `traceparent`, where it has no name of its own that can be one."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace}-00f067aa0ba902b7-01"
    named = {
        "traced": (trace, {"traceparent": traceparent}),
        "named": ("asked-7", {"traceparent": traceparent, "x-request-id": "asked-7"}),
        "misnamed": (trace, {"traceparent": traceparent, "x-request-id": "two words"}),
        "mistraced": ("id.mistraced", {"traceparent": traceparent.upper()}),
    }
    for words, (_, headers) in named.items():
        await send(channel, words, message_id=f"id.{words}", headers=headers)
    for words, (expected, _) in named.items():
        consuming.says(f" id={expected} lane={QUEUE} message_id=id.{words} attempt=1 outcome=done ")


async def test_without_an_id_nothing_is_promised(channel: AbstractChannel, notes_url: str) -> None:
    for _ in range(2):
        await send_body(channel, b'{"words":"no id"}', raw=b"\x10\x00\x02")
    await are_noted(notes_url, 2)
    assert await noted(notes_url) == Counter({"no id": 2})


@pytest.mark.parametrize(
    ("body", "reason", "places"),
    [
        (b"{", "The body is not JSON.", None),
        (b"\xff", "The body is not JSON.", None),
        (b'{"words": 7, "more": 1}', "The document breaks the rules.", ["/words", "/more"]),
        (b'{"words": "unwanted"}', "Nobody wants this note.", None),
    ],
)
async def test_what_cannot_be_right_is_parked_at_once(
    channel: AbstractChannel, body: bytes, reason: str, places: list[str] | None, api: httpx.AsyncClient
) -> None:
    await send_body(channel, body, message_id="m1", headers={"x-mine": "kept", "x-death": [{"queue": "forged"}]})
    await are_waiting(channel, PARKING, 1)
    (shown,) = (await api.get("/api/v1/messages/parked", params={"lane": QUEUE})).json()
    assert {name: shown[name] for name in ("lane", "id", "attempts", "content_type", "body_bytes")} == {
        "lane": QUEUE,
        "id": "m1",
        "attempts": 1,
        "content_type": "application/json",
        "body_bytes": len(body),
    }
    assert shown["reason"].startswith(reason) or reason in shown["problem"]["title"]
    assert datetime.now(UTC) - datetime.fromisoformat(shown["parked_at"]) < timedelta(minutes=5)
    if places:
        assert [place["pointer"] for place in shown["problem"]["errors"]] == places
    parked = await taken(channel, PARKING)
    properties = parked.header.properties
    headers = properties.headers or {}
    assert (parked.body, properties.message_id, properties.delivery_mode) == (body, "m1", 2)
    assert (headers["x-mine"], headers["x-origin"], headers["x-attempt"]) == ("kept", QUEUE, 1)
    assert "x-death" not in headers


async def test_what_is_parked_is_told(channel: AbstractChannel, notes_url: str) -> None:
    async with Database(notes_url, size=2) as db, listener(db) as heard:
        await send_body(channel, b"{", message_id="m-told")
        notice = await heard.next()
    assert notice is not None
    assert (notice.name, notice.owner, [bytes(what) for what in notice.whats]) == (
        "message.parked",
        None,
        [b'{"lane":"%s","request_id":"m-told"}' % QUEUE.encode()],
    )


async def test_an_accident_is_tried_again_after_each_delay_and_then_parked(
    channel: AbstractChannel, notes_url: str, consuming: Service
) -> None:
    """And those beside it are not held up by it."""
    good = [f"good {number}" for number in range(100)]
    for words in good[:50]:
        await send(channel, words)
    await send(channel, "poison", headers={"x-request-id": "poisoned"})
    for words in good[50:]:
        await send(channel, words)
    parked = await taken(channel, PARKING)
    assert (parked.header.properties.headers or {})["x-error"] == "ValueError: this note is poison"
    assert (parked.header.properties.headers or {})["x-attempt"] == 3
    assert await noted(notes_url) == Counter(good)
    consuming.says(" id=poisoned .*outcome=parked")
    assert [re.findall(r"attempt=(\d) outcome=(\w+)", line)[0] for line in consuming.lines(" id=poisoned ")] == [
        ("1", "delayed"),
        ("2", "delayed"),
        ("3", "parked"),
    ]


async def test_not_now_is_an_accident(channel: AbstractChannel) -> None:
    await send(channel, "not now")
    await send(channel, "beside", headers={"x-attempt": "forged"})
    parked = await taken(channel, PARKING)
    assert parked.header.properties.message_id == "id.not now"
    assert (parked.header.properties.headers or {})["x-error"] == "Notes are taken later."


async def test_an_endless_operation_is_stopped_and_the_wait_for_a_connection_is_no_part_of_it(
    channel: AbstractChannel, amqp_url: str, notes_url: str
) -> None:
    """A database that comes back may let nobody in for long: no attempt is counted."""
    async with Database(notes_url, size=1) as db, consuming_here(db, amqp_url, brief):
        delayed = brief.delay_queue(60)
        await send(channel, "endless", queue=brief.name)
        await are_waiting(channel, delayed, 1)
        async with db.connection():
            await send(channel, "patient", queue=brief.name)
            await are_waiting(channel, brief.name, 0)
            await asyncio.sleep(2 * brief.limit_seconds)
        await are_noted(notes_url, 1)
        assert await noted(notes_url) == Counter(["patient"])
        await are_waiting(channel, delayed, 1)
        await channel.queue_purge(delayed)


async def test_a_poison_message_holds_nobody_up(channel: AbstractChannel, amqp_url: str, notes_url: str) -> None:
    """All others are done while it waits for its next attempt."""
    async with Database(notes_url, size=4) as db, consuming_here(db, amqp_url, brief):
        delayed = brief.delay_queue(60)
        words = [f"note {number}" for number in range(300)]
        for number, some in enumerate((words[:100], words[100:200], words[200:])):
            await asyncio.gather(*(send(channel, one, queue=brief.name) for one in some))
            await send(channel, "poison", queue=brief.name, message_id=f"p{number}")
        await are_noted(notes_url, 300)
        await are_waiting(channel, delayed, 3)
        assert await noted(notes_url) == Counter(words)
        await channel.queue_purge(delayed)


BROKEN: dict[str, dict[str, Any]] = {
    "a forged death": {
        "headers": {"x-death": [{"queue": QUEUE, "reason": "expired", "count": 3}], "x-delivery-count": 9}
    },
    "an attempt that is no number": {"headers": {"x-attempt": "many"}},
    "an attempt beyond all": {"headers": {"x-attempt": 2**60}},
    "a copy to the same lane": {"headers": {"CC": [QUEUE], "BCC": [QUEUE]}},
    "a request id that is a list": {"headers": {"x-request-id": [1, {"a": None}], "traceparent": bytearray(b"\xff")}},
    "a time to live": {"expiration": "60000"},
    "a priority beyond all": {"priority": 255},
    "a value that can be read and not written": {"raw": b"\x20\x00\0\0\0\x08\x01aS\0\0\0\x01\xff"},
    "a trace": {"headers": {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
    "an id with NUL": {"message_id": "a\0b"},
    "headers that fill a frame": {"headers": {"x-large": "a" * 128_000}},
}


async def test_ten_messages_with_broken_headers(
    channel: AbstractChannel, notes_url: str, consuming: Service, api: httpx.AsyncClient
) -> None:
    """Each is parked once as it fails, and the consumer lives on, on the same connection."""
    await are_waiting(channel, QUEUE, 0)
    before = consuming.lines("event=broker_away")
    for name, properties in BROKEN.items():
        own = {"message_id": re.sub(r"\W", "-", name)} | properties
        await send(channel, "unwanted", **own)
        await are_waiting(channel, PARKING, 1)
        shown = (await api.get("/api/v1/messages/parked")).json()
        assert all(one["reason"] for one in shown), name
        await channel.queue_purge(PARKING)
    await send(channel, "poison", headers={"x-large": "a" * 128_000})
    await are_waiting(channel, PARKING, 1)
    (shown,) = (await api.get("/api/v1/messages/parked")).json()
    assert shown["reason"] == "its headers leave no room for the reason: it stands in the log"
    await send(channel, "still here")
    await are_noted(notes_url, 1)
    assert consuming.lines("event=broker_away") == before


@pytest.mark.parametrize(
    "broken",
    [
        b"\x00\x40" + struct.pack(">Q", 2**62),  # a moment in the year 146 billion
        b"\x20\x00" + struct.pack(">I", 4) + b"\x02\xff\xfeV",  # a key that is no UTF-8
        b"\x00\x80\x02\xff\xfe",  # an id that is no UTF-8
    ],
)
async def test_properties_that_cannot_be_read(
    amqp_url: str, channel: AbstractChannel, notes_url: str, broken: bytes, api: httpx.AsyncClient, consuming: Service
) -> None:
    before = consuming.lines("event=broker_away")
    await send_body(channel, b'{"words":"broken"}', raw=broken)
    await are_waiting(channel, PARKING, 1)
    (shown,) = (await api.get("/api/v1/messages/parked")).json()
    assert shown["reason"] == "its properties cannot be read"
    refused = await api.post(f"/api/v1/messages/parked/{QUEUE}/replay", params={"id": shown["id"]})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/cannot-be-sent-back")
    assert (await api.post(f"/api/v1/messages/parked/{QUEUE}/replay")).json() == {"replayed": 0}
    assert (await api.delete(f"/api/v1/messages/parked/{QUEUE}/{shown['id']}")).status_code == 204
    await are_waiting(channel, PARKING, 0)
    await send(channel, "still here")
    await are_noted(notes_url, 1)
    assert consuming.lines("event=broker_away") == before


async def test_parked_messages_are_looked_at_sent_back_and_dropped(
    channel: AbstractChannel, notes_url: str, api: httpx.AsyncClient
) -> None:
    for number in range(5):
        await send(channel, "unwanted", message_id=f"m{number}")
    for odd in ("odd/id %", ".."):
        await send(channel, "unwanted", message_id=odd)
    await are_waiting(channel, PARKING, 7)
    for _ in range(2):  # to look changes nothing
        shown = (await api.get("/api/v1/messages/parked")).json()
        assert {one["id"] for one in shown} > {f"m{number}" for number in range(5)}
    odds = [one["id"] for one in shown if one["id"].startswith("id-")]
    assert len((await api.get("/api/v1/messages/parked", params={"limit": 2})).json()) == 2
    assert (await api.delete(f"/api/v1/messages/parked/{QUEUE}/m1")).status_code == 204
    assert [(await api.delete(f"/api/v1/messages/parked/{QUEUE}/{odd}")).status_code for odd in odds] == [204, 204]
    gone = await api.delete(f"/api/v1/messages/parked/{QUEUE}/m1")
    assert (gone.status_code, gone.json()["type"]) == (404, "/problems/no-such-parked-message")
    one = await api.post(f"/api/v1/messages/parked/{QUEUE}/replay", params={"id": "m2"})
    assert (one.status_code, one.json()) == (200, {"replayed": 1})
    assert (await api.post(f"/api/v1/messages/parked/{QUEUE}/replay", params={"id": "m1"})).status_code == 404
    await are_waiting(channel, PARKING, 4)
    assert (await api.post(f"/api/v1/messages/parked/{QUEUE}/replay")).json() == {"replayed": 4}
    await are_waiting(channel, PARKING, 4)  # nobody wants them any more than before
    again = await taken(channel, PARKING)
    assert (again.header.properties.headers or {})["x-attempt"] == 1
    assert await noted(notes_url) == Counter()


async def test_what_is_sent_back_has_its_effect_once(
    channel: AbstractChannel, notes_url: str, api: httpx.AsyncClient
) -> None:
    """Once what they were parked for is mended, and though several people send them back at a time."""
    words = [f"later {number}" for number in range(40)]
    run = partial(asyncio.to_thread, run_sql, notes_url)
    await run("ALTER TABLE notes ADD CONSTRAINT not_yet CHECK (words !~ 'later')")
    try:
        await asyncio.gather(*(send(channel, one) for one in ["good", *words]))
        await are_waiting(channel, PARKING, len(words))
        parked = (await api.get("/api/v1/messages/parked")).json()
    finally:
        await run("ALTER TABLE notes DROP CONSTRAINT not_yet")
    assert {one["attempts"] for one in parked} == {3}
    assert {one["reason"].partition(":")[0] for one in parked} == {"CheckViolationError"}
    replays = await asyncio.gather(*(api.post(f"/api/v1/messages/parked/{QUEUE}/replay") for _ in range(3)))
    assert sorted(answer.json()["replayed"] for answer in replays) == [0, 0, len(words)]
    await are_noted(notes_url, 1 + len(words))
    await send(channel, words[0])  # by the sender, who knows nothing of it
    await are_waiting(channel, QUEUE, 0)
    assert await waiting(channel, PARKING) == 0
    assert await noted(notes_url) == Counter(["good", *words])


async def test_what_the_broker_parks_itself(channel: AbstractChannel, api: httpx.AsyncClient) -> None:
    """A message whose time is over: nobody takes from this lane. One that comes back again and again stays."""
    assert (await api.get("/api/v1/messages/parked", params={"lane": other.name})).json() == []
    await send(channel, "late", queue=other.name, expiration="1")
    await are_waiting(channel, other.parking, 1)
    (shown,) = (await api.get("/api/v1/messages/parked", params={"lane": other.name})).json()
    assert (shown["id"], shown["reason"]) == ("id.late", "its time to live was over before anybody took it")
    assert (await api.post(f"/api/v1/messages/parked/{other.name}/replay")).json() == {"replayed": 1}
    for _ in range(25):
        message = await channel.basic_get(other.name)
        while not isinstance(message.delivery, Basic.GetOk):
            message = await channel.basic_get(other.name)
        await channel.basic_nack(message.delivery.delivery_tag or 0)
    await are_waiting(channel, other.name, 1)
    assert await waiting(channel, other.parking) == 0
    await channel.queue_purge(other.name)


async def test_a_queue_that_somebody_deletes_is_made_anew(
    channel: AbstractChannel, notes_url: str, consuming: Service
) -> None:
    await channel.queue_delete(QUEUE)
    consuming.says("RabbitMQ has let go of the consumer")

    async def is_there() -> bool:
        async with channel_to(str(channel.connection.url)) as another:
            with suppress(aiormq.exceptions.ChannelNotFoundEntity):
                return (await another.queue_declare(QUEUE, passive=True)).consumer_count == 1
        return False

    await until(is_there)
    await send(channel, "after all")
    await are_noted(notes_url, 1)
    assert await noted(notes_url) == Counter(["after all"])


async def test_lanes_and_brokers_that_are_not_there(
    channel: AbstractChannel, api: httpx.AsyncClient, notes_url: str
) -> None:
    for answer in [
        await api.get("/api/v1/messages/parked", params={"lane": "nobody"}),
        await api.post("/api/v1/messages/parked/nobody/replay"),
        await api.delete("/api/v1/messages/parked/nobody/1"),
    ]:
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-lane")
    assert (await api.get("/api/v1/messages/parked", params={"limit": 0})).status_code == 400
    away = Amqp("amqp://guest:guest@127.0.0.1:1/")
    for amqp, status, kind in [(Amqp(), 404, "no-broker"), (away, 503, "broker-away")]:
        async with Database(notes_url, size=2) as db:
            transport = httpx.ASGITransport(application([MODULE, messages.MODULE], db, amqp=amqp))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60) as client:
                answer = await client.get("/api/v1/messages/parked")
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
