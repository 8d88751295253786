"""A register that comes as a message, and `kinfolk messages`, against a running service that takes what is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from tests.modules.citizens.registers import a_citizen
from tests.rabbit_client import are_waiting, channel_to, until
from tests.running import Service
from tests.scripted_service import Answer, scripted_service

from kinfolk.cli import run
from kinfolk.kit.arrivals import LONGEST_PROBLEM_BYTES
from kinfolk.modules.messages.jobs import Forgotten, forget_seen

LANE, PARKING = "imports.main", "imports.main.error"
Command = Callable[..., str]


@pytest.fixture(scope="module")
def service(make_database: Any, amqp_url: str) -> Iterator[Service]:
    with Service("up", "--pg-url", make_database("registers"), "--amqp-url", amqp_url) as service:
        yield service


@pytest.fixture
async def channel(amqp_url: str, service: Service) -> AsyncIterator[AbstractChannel]:
    async with channel_to(amqp_url) as channel:
        await channel.queue_purge(PARKING)
        yield channel


@pytest.fixture
def command(service: Service, capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*words: str, code: int = 0) -> str:
        assert run(["messages", *words, "--api-url", service.url]) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return command


async def send_register(channel: AbstractChannel, body: bytes, message_id: str) -> None:
    properties = Basic.Properties(message_id=message_id, delivery_mode=2, content_type="application/json")
    await channel.basic_publish(
        body, exchange="imports.exchange", routing_key=LANE, properties=properties, mandatory=True
    )


async def imported(service: Service, count: int) -> list[int]:
    """The numbers of the imports, once there are so many."""
    numbers: list[int] = []
    for _ in range(600):
        numbers = [
            number
            for number in range(1, count + 3)
            if httpx.get(f"{service.url}/imports/{number}/citizens", timeout=60).status_code == 200
        ]
        if len(numbers) >= count:
            break
        await asyncio.sleep(0.1)
    return numbers


async def test_a_register_is_imported_once_like_a_post(channel: AbstractChannel, service: Service) -> None:
    register = json.dumps({"citizens": [a_citizen(1, relatives=[2]), a_citizen(2, relatives=[1])]}).encode()
    for message_id in ("first", "first", "second"):
        await send_register(channel, register, message_id)
    numbers = await imported(service, 2)
    await are_waiting(channel, LANE, 0)
    assert await imported(service, 2) == numbers
    assert len(numbers) == 2
    sent = json.loads(register)["citizens"]
    assert httpx.get(f"{service.url}/imports/{numbers[0]}/citizens").json()["data"] == sent


async def test_every_bad_place_of_a_register_stands_on_the_parked_message(
    channel: AbstractChannel, command: Command
) -> None:
    citizens = [a_citizen(1, birth_date="31.02.2019"), a_citizen(1, town="")]
    await send_register(channel, json.dumps({"citizens": citizens}).encode(), "wrong")
    await are_waiting(channel, PARKING, 1)
    shown = command("parked", LANE).splitlines()
    assert shown[0].startswith(f"{LANE}  wrong  20")
    assert [line.strip().partition(":")[0] for line in shown[2:-1]] == [
        "/citizens/0/birth_date",
        "/citizens/1/town",
        "/citizens/1/citizen_id",
    ]
    assert command("replay", LANE, "--id", "wrong") == "replayed 1\n"
    await are_waiting(channel, PARKING, 1)
    assert command("drop", LANE, "--id", "wrong") == "dropped wrong\n"
    assert command("parked") == ""
    assert "There is no such parked message." in command("drop", LANE, "--id", "wrong", code=1)


async def test_a_student_comes_by_message_and_one_that_is_wrong_is_looked_after(
    channel: AbstractChannel, command: Command, service: Service
) -> None:
    """By a name that a sender knows from the contract, over HTTP and by command."""

    async def tell(body: str, message_id: str) -> None:
        properties = Basic.Properties(message_id=message_id, delivery_mode=2, content_type="application/json")
        await channel.basic_publish(
            body.encode(),
            exchange="example.exchange",
            routing_key="example.main",
            properties=properties,
            mandatory=True,
        )

    async with httpx.AsyncClient(base_url=f"{service.url}/api/v1", timeout=60) as client:

        async def are_added() -> bool:
            return [student["name"] for student in (await client.get("/students")).json()["result"]] == ["Анна", "Vera"]

        await tell('{"name": "Анна"}', "first")
        await tell('{"name": "Анна"}', "first")
        for message_id in ("wrong", "worse"):
            await tell('{"name": "", "active": false}', message_id)
        await tell('{"name": "Vera"}', "last")
        await until(are_added)
        await are_waiting(channel, "example.main.error", 2)
        parked = (await client.get("/messages/parked", params={"lane": "example.main"})).json()
        assert [(one["id"], one["attempts"]) for one in parked] == [("wrong", 1), ("worse", 1)]
        places = {place["pointer"]: place["detail"] for place in parked[0]["problem"]["errors"]}
        assert places == {"/name": "must have at least 1 character", "/active": "is not a known field"}
        shown = command("parked", "example.main")
        assert "    /name: must have at least 1 character\n    /active: is not a known field\n" in shown
        replayed = await client.post("/messages/parked/example.main/replay", params={"id": "wrong"})
        assert replayed.json() == {"replayed": 1}
        assert command("replay", "example.main", "--id", "worse") == "replayed 1\n"
        await are_waiting(channel, "example.main.error", 2)  # they are no better than before
        assert (await client.delete("/messages/parked/example.main/wrong")).status_code == 204
        assert command("drop", "example.main", "--id", "worse") == "dropped worse\n"
        assert command("parked", "example.main") == ""
        assert await are_added()


async def test_of_very_many_bad_places_as_many_as_a_header_holds(
    channel: AbstractChannel, command: Command, service: Service
) -> None:
    citizens = [a_citizen(number, birth_date="never", gender="no", town=7) for number in range(2_000)]
    await send_register(channel, json.dumps({"citizens": citizens}).encode(), "very-wrong")
    await are_waiting(channel, PARKING, 1)
    (shown,) = httpx.get(f"{service.url}/api/v1/messages/parked", params={"lane": LANE}).json()
    problem = shown["problem"]
    assert problem["error_count"] == 6_000
    assert 300 < len(problem["errors"]) < 1_000
    assert len(json.dumps(problem)) < 1.2 * LONGEST_PROBLEM_BYTES
    assert f"and {6_000 - len(problem['errors'])} more" in command("parked", LANE)


async def test_a_register_larger_than_we_take(channel: AbstractChannel, command: Command) -> None:
    await send_register(channel, b" " * 70_000_001, "large")
    await are_waiting(channel, PARKING, 1)
    assert "The register is larger than we take." in command("parked")
    command("drop", LANE, "--id", "large")


def test_who_answers_is_not_kinfolk(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service(Answer(200, b"[{}]")) as other:
        assert run(["messages", "parked", "--api-url", other.url]) == 1
    assert "is it Kinfolk?" in capsys.readouterr().err
    assert run(["messages", "replay", LANE, "--api-url", "http://127.0.0.1:1"]) == 3


@pytest.fixture
def seen_url(make_database: Any) -> str:
    return make_database("seen")


async def test_forgetting_is_a_job_of_the_night(seen_url: str) -> None:
    conn = await asyncpg.connect(seen_url)
    try:
        await conn.execute("INSERT INTO inbox VALUES ('a', 'old', now() - interval '8 days'), ('a', 'young', now())")
        assert await forget_seen(conn) == Forgotten(1)
        assert await conn.fetchval("SELECT message_id FROM inbox") == "young"
    finally:
        await conn.close()
