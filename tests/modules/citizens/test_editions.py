"""Editions: an entity tag changes with every change and never without one; If-None-Match and If-Match heed it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
import time_machine
from tests.modules.citizens.registers import a_citizen, a_family, add, refusal, stored

from kinfolk.kit.db import Database

CITIZENS = "/imports/{}/citizens"
BIRTHDAYS = "/imports/{}/citizens/birthdays"
AGES = "/imports/{}/towns/stat/percentile/age"
GETS = [CITIZENS, BIRTHDAYS, AGES]


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as traveller:
        yield traveller


async def tag_of(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200
    return answer.headers["etag"]


@pytest.mark.parametrize("path", GETS)
async def test_what_was_seen_is_not_sent_again(
    client: httpx.AsyncClient, path: str, clock: time_machine.Traveller
) -> None:
    import_id = await add(client, a_family(_1=[]))
    place = path.format(import_id)
    tag = await tag_of(client, place)
    assert tag == await tag_of(client, place), "the same state, the same tag"
    for seen in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await client.get(place, headers={"if-none-match": seen})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in answer.headers
    for unseen in ('"x"', tag.strip('"'), tag[:-2] + '"'):
        assert (await client.get(place, headers={"if-none-match": unseen})).status_code == 200
    await client.patch(f"/imports/{import_id}/citizens/1", json={"name": "New"})
    changed = await client.get(place, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_every_change_makes_a_new_tag(client: httpx.AsyncClient) -> None:
    import_id = await add(client, a_family(_1=[], _2=[]))
    tags = [await tag_of(client, CITIZENS.format(import_id))]
    for change in ({"relatives": [2]}, {"relatives": []}, {"name": "A"}, {"name": "A"}):
        changed = await client.patch(f"/imports/{import_id}/citizens/1", json=change)
        tags.append(changed.headers["etag"])
        assert await tag_of(client, CITIZENS.format(import_id)) == tags[-1], "the answer's tag is the list's"
    assert len(set(tags)) == 5


async def test_another_import_has_other_tags(client: httpx.AsyncClient) -> None:
    first, second = await add(client, []), await add(client, [])
    for path in GETS:
        assert await tag_of(client, path.format(first)) != await tag_of(client, path.format(second))


async def test_only_the_ages_tag_changes_with_the_date(
    client: httpx.AsyncClient, clock: time_machine.Traveller
) -> None:
    import_id = await add(client, a_family(_1=[]))
    today = {path: await tag_of(client, path.format(import_id)) for path in GETS}
    clock.move_to(datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC))
    assert {path: await tag_of(client, path.format(import_id)) for path in GETS} == today
    clock.move_to(datetime(2026, 3, 2, tzinfo=UTC))
    tomorrow = {path: await tag_of(client, path.format(import_id)) for path in GETS}
    assert {path for path in GETS if tomorrow[path] != today[path]} == {AGES}
    answer = await client.get(AGES.format(import_id), headers={"if-none-match": today[AGES]})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", GETS)
async def test_what_is_not_there_has_no_tag(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path.format(999_999_999), headers={"if-none-match": "*"})
    assert refusal(answer) == (404, "no-such-import")
    assert "etag" not in answer.headers


@pytest.mark.parametrize("seen", ["{}", "*", '"x", {}', '{} , "y"'])
async def test_a_change_of_what_was_seen(client: httpx.AsyncClient, seen: str) -> None:
    import_id = await add(client, a_family(_1=[]))
    tag = await tag_of(client, CITIZENS.format(import_id))
    answer = await client.patch(
        f"/imports/{import_id}/citizens/1", json={"name": "New"}, headers={"if-match": seen.format(tag)}
    )
    assert answer.status_code == 200
    assert answer.json()["data"]["name"] == "New"


async def test_a_stale_change_is_refused(client: httpx.AsyncClient, db: Database) -> None:
    import_id = await add(client, a_family(_1=[], _2=[]))
    place = f"/imports/{import_id}/citizens/1"
    tag = await tag_of(client, CITIZENS.format(import_id))
    new = (await client.patch(place, json={"name": "A"}, headers={"if-match": tag})).headers["etag"]
    before = await stored(db, import_id)
    for stale in (tag, '"x"', f"W/{new}", "", new.strip('"')):
        answer = await client.patch(place, json={"name": "B", "relatives": [2]}, headers={"if-match": stale})
        assert refusal(answer) == (412, "stale-tag"), stale
    assert await stored(db, import_id) == before
    assert (await client.patch(place, json={"name": "B"}, headers={"if-match": new})).status_code == 200


async def test_which_refusal_comes_first(client: httpx.AsyncClient) -> None:
    """RFC 9110, 13.2.1: a condition is looked at only where the request would have succeeded without it."""
    import_id = await add(client, a_family(_1=[]))
    stale = {"if-match": '"x"'}
    place = f"/imports/{import_id}/citizens/1"
    assert refusal(await client.patch(place, json={"name": ""}, headers=stale))[0] == 400
    for nowhere in ("/imports/999999999/citizens/1", f"/imports/{import_id}/citizens/2"):
        assert refusal(await client.patch(nowhere, json={"name": "A"}, headers=stale))[0] == 404
        assert refusal(await client.patch(nowhere, json={"name": "A"}, headers={"if-match": "*"}))[0] == 404
    assert refusal(await client.patch(place, json={"name": "A"}, headers=stale))[0] == 412
    assert refusal(await client.patch(place, json={"name": "A"}, headers={"if-none-match": "*"}))[0] == 412


async def test_of_two_who_saw_the_same_one_wins(client: httpx.AsyncClient) -> None:
    import_id = await add(client, [a_citizen(1)])
    tag = await tag_of(client, CITIZENS.format(import_id))
    answers = await asyncio.gather(
        *(
            client.patch(f"/imports/{import_id}/citizens/1", json={"apartment": number}, headers={"if-match": tag})
            for number in range(8)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
