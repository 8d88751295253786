"""Idempotency-Key: a retry gets the first answer, another body is told so, and a day later all is forgotten."""

import asyncio
import gzip
import json
import uuid
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen, a_family, listed, pointers, refusal, row_counts

from kinfolk.kit.db import Database

ONE = json.dumps({"citizens": a_family(_1=[2], _2=[1])}).encode()
OTHER = json.dumps({"citizens": [a_citizen(3)]}).encode()


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


async def send(client: httpx.AsyncClient, key: str, body: bytes = ONE, **headers: str) -> httpx.Response:
    return await client.post("/imports", content=body, headers={"idempotency-key": key} | headers)


async def make_older(db: Database, key: str, age: str) -> None:
    async with db.connection() as conn:
        await conn.execute(f"UPDATE idempotent_imports SET created_at = now() - interval '{age}' WHERE key = '{key}'")


async def test_a_retry_gets_the_first_answer(client: httpx.AsyncClient, db: Database, key: str) -> None:
    first = await send(client, key)
    assert first.status_code == 201
    before = await row_counts(db)
    again = await send(client, key)
    kept = ("location", "content-type")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert [again.headers[name] for name in kept] == [first.headers[name] for name in kept]
    assert await row_counts(db) == before
    import_id = first.json()["data"]["import_id"]
    await client.patch(f"/imports/{import_id}/citizens/1", json={"name": "New"})
    assert (await send(client, key)).content == first.content
    assert (await listed(client, import_id))[0]["name"] == "New", "a retry adds nothing and changes nothing"


async def test_without_a_key_each_is_an_import(client: httpx.AsyncClient) -> None:
    answers = [await client.post("/imports", content=ONE) for _ in range(2)]
    assert answers[0].json() != answers[1].json()


async def test_another_body_with_the_key_is_refused(client: httpx.AsyncClient, db: Database, key: str) -> None:
    first = await send(client, key)
    before = await row_counts(db)
    assert refusal(await send(client, key, OTHER)) == (422, "key-used-differently")
    assert refusal(await send(client, key, ONE + b" ")) == (422, "key-used-differently")
    assert await row_counts(db) == before
    assert (await send(client, key)).json() == first.json()
    assert (await send(client, str(uuid.uuid4()), OTHER)).status_code == 201


async def test_packed_and_plain_are_one_body(client: httpx.AsyncClient, key: str) -> None:
    packed = await send(client, key, gzip.compress(ONE), **{"content-encoding": "gzip"})
    assert packed.status_code == 201
    assert (await send(client, key)).json() == packed.json()


async def test_a_refused_body_does_not_use_up_the_key(client: httpx.AsyncClient, db: Database, key: str) -> None:
    before = await row_counts(db)
    assert pointers(await send(client, key, b'{"citizens":[{}]}'))
    assert refusal(await send(client, key, b"{"))[0] == 400
    assert await row_counts(db) == before
    assert (await send(client, key)).status_code == 201


@pytest.mark.parametrize("bad", ["", " ", "a b", "a" * 256, "ключ".encode(), "a\x7f"])
async def test_keys_that_are_none(client: httpx.AsyncClient, db: Database, bad: Any) -> None:
    before = await row_counts(db)
    answer = await client.post("/imports", content=ONE, headers={"idempotency-key": bad})
    assert refusal(answer) == (400, "unreadable-header")
    assert await row_counts(db) == before
    assert (await send(client, uuid.uuid4().hex * 7 + "a" * 31)).status_code == 201, "255 characters"


async def test_twenty_at_once_are_one_import(client: httpx.AsyncClient, db: Database, key: str) -> None:
    before = await row_counts(db)
    answers = await asyncio.gather(*(send(client, key) for _ in range(20)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert {table: count - before[table] for table, count in (await row_counts(db)).items()} == {
        "imports": 1,
        "citizens": 2,
        "ties": 1,
        "idempotent_imports": 1,
    }


async def test_two_bodies_at_once_one_wins(client: httpx.AsyncClient, key: str) -> None:
    answers = await asyncio.gather(*(send(client, key, (ONE, OTHER)[turn % 2]) for turn in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [422] * 5
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1


async def test_a_key_is_forgotten_after_a_day(client: httpx.AsyncClient, db: Database, key: str) -> None:
    first = await send(client, key)
    await make_older(db, key, "23 hours 59 minutes")
    assert (await send(client, key)).json() == first.json()
    await make_older(db, key, "24 hours 1 minute")
    new = await send(client, key, OTHER)
    assert new.status_code == 201
    assert new.json() != first.json()
    assert len(await listed(client, first.json()["data"]["import_id"])) == 2, "the import itself stays"


async def test_forgetting_waits_for_nobody(client: httpx.AsyncClient, db: Database) -> None:
    """Somebody else is forgetting half of them and takes his time: others neither wait nor stand in a circle."""
    old_keys = [str(uuid.uuid4()) for _ in range(30)]
    for old in old_keys:
        assert (await send(client, old)).status_code == 201
    for old in old_keys:
        await make_older(db, old, "25 hours")
    async with db.transaction() as conn:
        await conn.execute("DELETE FROM idempotent_imports WHERE key = ANY($1)", old_keys[:15])
        answer = await asyncio.wait_for(send(client, str(uuid.uuid4())), 60)
        assert answer.status_code == 201
        left = await conn.fetchval("SELECT count(*) FROM idempotent_imports WHERE key = ANY($1)", old_keys)
        assert left == 0
    answers = await asyncio.gather(*(send(client, old) for old in old_keys))
    assert {answer.status_code for answer in answers} == {201}
