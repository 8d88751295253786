"""Contacts in files, while processes are killed and race each other."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults import contact_writers
from tests.modules.contacts.entries import add, an_entry
from tests.running import Service

from kinfolk.modules.contacts.contacts import WHOLE
from kinfolk.modules.contacts.file_store import FileStore

ROUNDS = 12
WRITTEN_A_ROUND = 120
BURSTS = 150


async def test_killed_while_32_write(tmp_path: Path) -> None:
    """What was answered is there, or something later; every file is whole; the list answers, and no rubbish stays."""
    forked = get_context("forkserver")
    forked.set_forkserver_preload([contact_writers.__name__])
    last = dict.fromkeys(contact_writers.IDS, 0)
    for number in range(ROUNDS):
        hears, tells = forked.Pipe(duplex=False)
        writers = forked.Process(target=contact_writers.write, args=(tmp_path, number * 1_000_000, tells))
        writers.start()
        tells.close()
        answered = [hears.recv() for _ in range(WRITTEN_A_ROUND)]
        writers.kill()
        with suppress(EOFError):
            while True:
                answered.append(hears.recv())
        writers.join()
        assert writers.exitcode == -signal.SIGKILL
        for contact_id, count in answered:
            last[contact_id] = max(last[contact_id], count)
        store = FileStore(tmp_path)
        store.open()
        _, rows = await store.list_page(WHOLE)
        assert [contact_id for contact_id, _ in rows] == contact_writers.IDS
        for contact_id, document in rows:
            count, _, rest = json.loads(document)["full_name"].partition(" ")
            assert int(count) >= last[contact_id], "an answered change is lost"
            assert len(rest) in {0, *contact_writers.SIZES}
        left = [path.name for path in tmp_path.iterdir() if path.suffix != ".json"]
        assert left == [".locks"]
    assert sum(count > 0 for count in last.values()) > len(last) // 2, "too few wrote: this shows nothing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contacts")


@pytest.fixture(scope="module")
def files(make_database: Any, folder: Path) -> Iterator[Service]:
    """Two processes on one folder."""
    words = ("--workers", "2", "--contacts-store", f"fs:{folder}", "--pg-url", make_database("files"))
    with Service("api", *words) as service:
        yield service


@pytest.fixture
async def clients(files: Service) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Each with connections of its own, so that both processes are asked."""
    limits = httpx.Limits(max_keepalive_connections=2)
    many = [httpx.AsyncClient(base_url=files.url, timeout=60, trust_env=False, limits=limits) for _ in range(8)]
    yield many
    for client in many:
        await client.aclose()


async def test_bursts_of_changes_leave_one_of_them_whole(clients: list[httpx.AsyncClient]) -> None:
    place = await add(clients[0])
    bodies = [json.dumps(an_entry(str(number) * 4 ** (number + 1))) for number in range(8)]
    wanted = [json.loads(body) for body in bodies]
    is_over = False

    async def look() -> int:
        times = 0
        while not is_over:
            found = await clients[times % 8].get(place)
            assert found.status_code == 200, found.text[:200]
            assert found.json() in [*wanted, an_entry()]
            times += 1
        return times

    looking = asyncio.create_task(look())
    for _ in range(BURSTS):
        answers = await asyncio.gather(
            *(one.put(place, content=body) for one, body in zip(clients, bodies, strict=True))
        )
        assert {answer.status_code for answer in answers} == {204}
        assert (await clients[0].get(place)).json() in wanted
    is_over = True
    assert await looking > BURSTS // 2


async def test_of_those_with_one_tag_one_succeeds_across_processes(clients: list[httpx.AsyncClient]) -> None:
    place = await add(clients[0])
    for _ in range(25):
        tag = (await clients[0].get(place)).headers["etag"]
        entry = an_entry("all the same")
        answers = await asyncio.gather(*(one.put(place, json=entry, headers={"if-match": tag}) for one in clients))
        assert sorted(answer.status_code for answer in answers) == [204] + [412] * 7


async def test_lists_while_entries_come_and_go(clients: list[httpx.AsyncClient]) -> None:
    stays = {(await add(clients[0], "Stays")).rpartition("/")[2] for _ in range(5)}

    async def come_and_go(client: httpx.AsyncClient) -> None:
        for _ in range(15):
            places = [await add(client, "Goes") for _ in range(3)]
            for place in places:
                assert (await client.delete(place)).status_code == 204

    going = asyncio.gather(*map(come_and_go, clients[:6]))
    times = 0
    while not going.done():
        for path in ("/addresses", "/addresses?q=stays", "/addresses?limit=1000"):
            listed = await clients[7].get(path)
            assert listed.status_code == 200, listed.text[:200]
            assert stays <= listed.json().keys()
        times += 1
    await going
    assert times > 1


async def test_what_was_deleted_does_not_come_back(clients: list[httpx.AsyncClient], folder: Path) -> None:
    chosen = random.Random(1)
    for _ in range(60):
        place = await add(clients[0])

        async def put(one: httpx.AsyncClient, place: str = place) -> int:
            await asyncio.sleep(chosen.random() / 200)
            return (await one.put(place, json=an_entry("Back"))).status_code

        deleted, *replaced = await asyncio.gather(clients[1].delete(place), *map(put, clients[2:6]))
        assert deleted.status_code == 204
        assert set(replaced) <= {204, 404}
        assert (await clients[6].get(place)).status_code == 404
        assert not list(folder.glob(f"*{place.rpartition('/')[2]}*"))
