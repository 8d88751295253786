"""Listening to a running service: who changes something at one worker is heard at the other."""

import asyncio
import json
import re
import signal
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from tests.listeners import SECONDS, end_of, heard, heard_until, listening
from tests.modules.citizens.registers import a_citizen
from tests.running import Service
from websockets.exceptions import InvalidStatus

SOCKETS = 200
LOCAL: Any = {"trust_env": False, "timeout": 60}


def place_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


async def test_200_sockets_of_two_workers_hear_what_is_done_at_either(service: Service) -> None:
    async with AsyncExitStack() as stack, httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
        many = [await stack.enter_async_context(listening(place_of(service))) for _ in range(SOCKETS)]
        answer = await client.post(
            "/imports", json={"citizens": [a_citizen(1, relatives=[2]), a_citizen(2, relatives=[1])]}
        )
        import_id = answer.json()["data"]["import_id"]
        citizen = f"/imports/{import_id}/citizens/1"
        assert (await client.patch(citizen, json={"name": "Another"})).status_code == 200
        assert (await client.patch(citizen, json={"relatives": []})).status_code == 200
        assert (await client.patch(citizen, json={"relatives": [7]})).status_code == 400
        assert (await client.delete(f"/imports/{import_id}")).status_code == 204
        told = await asyncio.gather(*(heard_until(ears, "import.removed", import_id=import_id) for ears in many))
    expected = [
        ("import.created", {"request_id": answer.headers["x-request-id"], "import_id": import_id, "citizens": 2}),
        ("citizen.changed", {"import_id": import_id, "citizen_id": 1}),
        ("citizen.changed", {"import_id": import_id, "citizen_id": 1}),
        ("citizen.changed", {"import_id": import_id, "citizen_id": 2}),
        ("import.removed", {"import_id": import_id}),
    ]
    for each in told:
        ours = [event for event in each if event["what"].get("import_id") == import_id]
        assert [(event["name"], event["what"]) for event in ours] == expected
        assert all(event.keys() == {"name", "when", "what"} for event in each)
        assert "Another" not in json.dumps(each)


async def test_who_is_removed_is_told_of_with_those_who_lose_a_relative(service: Service) -> None:
    pair = [a_citizen(1, relatives=[2]), a_citizen(2, relatives=[1])]
    async with listening(place_of(service)) as ears, httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
        import_id = (await client.post("/imports", json={"citizens": pair})).json()["data"]["import_id"]
        assert (await client.delete(f"/api/v1/imports/{import_id}/citizens/1")).status_code == 204
        told = await heard_until(ears, "citizen.changed", import_id=import_id, citizen_id=2)
        await client.delete(f"/imports/{import_id}")
    ours = [(event["name"], event["what"]) for event in told if event["what"].get("import_id") == import_id]
    assert ours[1:] == [
        ("citizen.removed", {"import_id": import_id, "citizen_id": 1}),
        ("citizen.changed", {"import_id": import_id, "citizen_id": 2}),
    ]


async def test_many_corrections_at_once_are_all_told(service: Service) -> None:
    people = range(1, 101)
    async with listening(place_of(service)) as ears, httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
        answer = await client.post("/imports", json={"citizens": [a_citizen(number) for number in people]})
        citizens = f"/imports/{answer.json()['data']['import_id']}/citizens"
        await asyncio.gather(*(client.patch(f"{citizens}/{number}", json={"apartment": 5}) for number in people))
        await client.patch(f"{citizens}/100", json={"apartment": 6})
        await client.delete(citizens.removesuffix("/citizens"))
        told = await heard_until(ears, "import.removed", import_id=answer.json()["data"]["import_id"])
    assert {event["what"]["citizen_id"] for event in told if event["name"] == "citizen.changed"} == set(people)


async def test_a_large_import_tells_how_far_it_is(service: Service) -> None:
    citizens = [a_citizen(number, street="x" * 250, building="y" * 250) for number in range(1, 8_001)]
    async with listening(place_of(service)) as ears, httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
        body = json.dumps({"citizens": citizens}).encode()
        answer = await client.post("/imports", content=body, headers={"x-request-id": "a-large-one"})
        assert answer.status_code == 201, answer.text[:200]
        told = await heard_until(ears, "import.created", request_id="a-large-one")
        await client.delete(f"/imports/{answer.json()['data']['import_id']}")
    ours = [event["what"] for event in told if event["what"].get("request_id") == "a-large-one"]
    assert ours == [
        {"request_id": "a-large-one", "stage": "arrived", "bytes": len(body)},
        {"request_id": "a-large-one", "stage": "read", "citizens": 8_000},
        {"request_id": "a-large-one", "import_id": answer.json()["data"]["import_id"], "citizens": 8_000},
    ]


async def test_jobs_tell_what_becomes_of_them(service: Service) -> None:
    async with listening(place_of(service)) as ears, httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
        answer = await client.post("/api/v1/students", json={"name": "Ada"})
        assert answer.status_code == 201, answer.text[:200]
        done = await heard_until(ears, "job.done", kind="students.welcome")
    job_id = done[-1]["what"]["job_id"]
    ours = [event["name"] for event in done if event["what"].get("job_id") == job_id]
    assert ours == ["job.queued", "job.running", "job.done"]


@pytest.fixture
def asking_url(make_database: Any) -> str:
    url: str = make_database("listening")
    return url


async def test_a_token_lets_in_and_stands_in_no_log_and_its_end_is_the_end(asking_url: str) -> None:
    words = ("--workers", "2", "--auth", "required", "--log-level", "debug", "--pg-url", asking_url)
    with Service("api", *words) as service:
        (password,) = re.findall(
            r"^The first administrator is admin, with the password (\S+)$", service.log, re.MULTILINE
        )
        who = {"username": "admin", "password": password}
        async with httpx.AsyncClient(base_url=service.url, **LOCAL) as client:
            tokens = [
                (await client.post("/api/v1/user/auth", json=who)).json()["data"]["access_token"] for _ in range(2)
            ]
            place = place_of(service)
            async with (
                listening(place, query=f"?token={tokens[0]}") as ended,
                listening(place, subprotocols=["bearer", tokens[1]]) as stays,
            ):
                for ears in (ended, stays):
                    await ears.send('{"say":"here"}')
                    assert await heard(ears) == {"echo": "here"}
                with pytest.raises(InvalidStatus) as refused:
                    async with listening(place, query=f"?token={tokens[0]}x"):
                        pass
                assert refused.value.response.status_code == 401
                headers = {"authorization": f"Bearer {tokens[0]}"}
                assert (await client.delete("/api/v1/user/auth", headers=headers)).status_code == 204
                assert await end_of(ended) == 4401
                metrics = (await client.get("/metrics")).text
                service.process.send_signal(signal.SIGTERM)
                assert await end_of(stays) == 1001
        assert await asyncio.to_thread(service.process.wait, SECONDS) == 0
        log = service.log
    codes = re.findall(r"event=socket id=\S+ by=user:1 code=(\d+) ", log)
    assert sorted(codes) == ["1001", "4401"]
    assert 'kinfolk_sockets_ended_total{code="4401"} 1.0' in metrics.splitlines()
    assert [text.count(token) for text in (log, metrics) for token in tokens] == [0, 0, 0, 0]
