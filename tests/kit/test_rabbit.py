"""Where RabbitMQ is, what a header may hold, and news that go out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp.frame import marshal, unmarshal
from pamqp.heartbeat import Heartbeat
from tests.noting_product import Echo, heard, other
from tests.rabbit_client import channel_to, taken
from tests.running import kinfolk

from kinfolk.kit import log, news, problems
from kinfolk.kit.arrivals import reason, written_problem
from kinfolk.kit.db import Database
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.ledger import find_job
from kinfolk.kit.memory_jobs import jobs_in_memory
from kinfolk.kit.news import RETRIES, News, use
from kinfolk.kit.rabbit import Amqp, NoBroker, Properties, declare, sent_on
from kinfolk.kit.worker import worker

URL = "amqp://me:secret@host:5672/main"


def test_the_address_of_a_vhost() -> None:
    amqp = Amqp.of(URL, "orders=amqps://you:hush@other/o, spare=amqp://third/", "0.5, 60")
    assert amqp.address(None) == URL
    assert amqp.address("orders") == "amqps://you:hush@other/o"
    assert amqp.address("not/named") == "amqp://me:secret@host:5672/not%2Fnamed"
    assert amqp.delays_seconds == (0.5, 60)
    with pytest.raises(NoBroker):
        Amqp.of(None).address(None)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (("http://me:secret@host/",), "--amqp-url"),
        (("amqp://",), "--amqp-url"),
        (("amqp://me:secret@host:0/",), "--amqp-url"),
        (("amqp://me:secret@host:port/",), "--amqp-url"),
        ((URL, "orders=secret"), "--amqp-vhosts"),
        ((URL, None, "5,soon"), "--amqp-delays"),
        ((URL, None, "0"), "--amqp-delays"),
        ((URL, None, "nan"), "--amqp-delays"),
    ],
)
def test_settings_that_cannot_be(settings: Any, word: str) -> None:
    with pytest.raises(WrongSetting, match=f"^{word}") as refused:
        Amqp.of(*settings)
    assert "secret" not in str(refused.value)


def test_a_role_without_rabbitmq_says_what_it_needs() -> None:
    done = kinfolk("consume")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "--amqp-url amqp://user:password@host:port/vhost" in done.stderr


def test_what_a_message_takes_along() -> None:
    came = Properties(content_type="text/x", expiration="5", user_id="me", message_id="a", headers={"x": 1})
    went = sent_on(came, {"y": 2})
    assert (went.content_type, went.message_id, went.headers) == ("text/x", "a", {"y": 2})
    assert (went.delivery_mode, went.expiration, went.user_id) == (2, None, None)
    assert sent_on(Properties(delivery_mode=1), {}).delivery_mode == 1


def test_reasons_fit_into_a_header() -> None:
    assert reason(ValueError("\ud800" + "a" * 5_000)) == ("ValueError: \ufffd" + "a" * 5_000)[:2_000]
    assert reason(problems.Conflict("taken")) == "taken"
    assert written_problem(problems.Conflict("a" * 100), 50) == ""


def test_a_frame_that_is_broken_elsewhere_is_still_an_error() -> None:
    assert isinstance(unmarshal(marshal(Heartbeat(), 0))[2], Heartbeat)
    for broken in (b"\x01\x00\x01\x00\x00\x00\x01\x00\xce", b"\x02\x00"):
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the library makes of it
            unmarshal(broken)


@pytest.fixture(scope="module")
def news_url(make_database: Any) -> str:
    return make_database("news")


@pytest.fixture
async def db(news_url: str) -> AsyncIterator[Database]:
    async with Database(news_url, size=4) as db:
        yield db


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    async with news.connections():
        yield


async def test_news_go_out_after_the_commit(amqp_url: str, db: Database) -> None:
    use(Amqp(amqp_url, {"other": amqp_url}))
    async with channel_to(amqp_url) as channel:
        await declare(channel, other, ())
        with jobs_in_memory(db) as jobs:
            with log.facts("request-7"):
                async with db.transaction() as conn:
                    await heard.owe(conn, Echo("heard"))
                    await heard.owe(conn, Echo("twice"))
            assert (await channel.queue_declare(other.name, passive=True)).message_count == 0
            await jobs.work_all()
        message = await taken(channel, other.name)
        properties = message.header.properties
        assert (message.body, properties.delivery_mode) == (b'{"words":"heard"}', 2)
        assert (properties.headers or {})["x-request-id"] == "request-7"
        assert properties.message_id
        second = await taken(channel, other.name)
        assert second.body == b'{"words":"twice"}'
        assert second.header.properties.message_id != properties.message_id


async def test_news_that_nobody_hears_are_an_accident(amqp_url: str, db: Database) -> None:
    use(Amqp(amqp_url))
    nobody = News("nobody.listens", Echo, exchange="nobody.exchange")
    with jobs_in_memory(db) as jobs:
        async with db.transaction() as conn:
            job_id = await nobody.owe(conn, Echo("lost?"))
        await jobs.work_all()
    async with db.connection() as conn:
        job = await find_job(conn, job_id)
    assert (job.status, job.attempts) == ("failed", 1 + len(RETRIES))


async def test_a_worker_closes_what_it_published_through(amqp_url: str, db: Database) -> None:
    use(Amqp(amqp_url, {"other": amqp_url}))
    async with channel_to(amqp_url) as channel:
        await declare(channel, other, ())
        ending = asyncio.Event()
        work = asyncio.ensure_future(worker(db, [news.publish_news], 1)(lambda: None, ending))
        async with db.transaction() as conn:
            await heard.owe(conn, Echo("heard"))
        await taken(channel, other.name)
    connection = (await news._publishers[-1].channel("other", heard.exchange)).connection
    assert not connection.is_closed
    ending.set()
    await work
    assert connection.is_closed


async def test_news_find_a_new_connection_when_the_old_one_is_lost(amqp_url: str, db: Database) -> None:
    use(Amqp(amqp_url, {"other": amqp_url}))
    async with channel_to(amqp_url) as channel:
        await declare(channel, other, ())
        with jobs_in_memory(db) as jobs:
            async with db.transaction() as conn:
                await heard.owe(conn, Echo("before"))
            await jobs.work_all()
            lost = await news._publishers[-1].channel("other", heard.exchange)
            await lost.connection.close()
            async with db.transaction() as conn:
                await heard.owe(conn, Echo("after"))
            await jobs.work_all()
        assert {(await taken(channel, other.name)).body for _ in range(2)} == {
            b'{"words":"before"}',
            b'{"words":"after"}',
        }
