"""Corrections on their way while PostgreSQL is killed: what was answered 200 is kept, all else was answered 503."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from tests.faults.test_citizens_faults import kill_a_backend
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import copy_of_ready, open_directory
from tests.running import Service
from tests.waiting import wait_until

from kinfolk.kit.embedded_postgres import EmbeddedPostgres

pytestmark = pytest.mark.uncounted

CLIENTS = 6
IMPORTS = 2


class Client:
    """Gives one citizen a higher number each time, and remembers what became of it."""

    def __init__(self, url: str, place: str) -> None:
        self.place = place
        self.sent = 0
        self.kept = 0
        self.versions: list[int] = []
        self.refused: list[httpx.Response] = []
        self._url = url

    def work(self, is_over: threading.Event) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not is_over.is_set():
                self.sent += 1
                answer = client.patch(self.place, json={"apartment": self.sent})
                if answer.status_code == 200:
                    self.kept = answer.json()["data"]["apartment"]
                    self.versions.append(int(answer.headers["etag"].strip('"').split("-")[0]))
                else:
                    self.refused.append(answer)


@contextmanager
def correcting(url: str, import_ids: list[int]) -> Iterator[list[Client]]:
    places = [f"/imports/{import_ids[number % IMPORTS]}/citizens/{number}" for number in range(CLIENTS)]
    clients = [Client(url, place) for place in places]
    is_over = threading.Event()
    threads = [threading.Thread(target=client.work, args=(is_over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


async def test_postgresql_crashes_while_many_correct() -> None:
    with open_directory() as place, EmbeddedPostgres(copy_of_ready(place, is_migrated=True)) as postgres:
        pg_url = postgres.start()
        with Service("api", "--workers", "2", "--pg-url", pg_url) as service:
            register = {"citizens": [a_citizen(number, apartment=0) for number in range(CLIENTS)]}
            with httpx.Client(base_url=service.url, trust_env=False) as client:
                added = [client.post("/imports", json=register).json() for _ in range(IMPORTS)]
            import_ids = [each["data"]["import_id"] for each in added]
            with correcting(service.url, import_ids) as clients:
                for _ in range(2):
                    goal = sum(len(client.versions) for client in clients) + 60
                    wait_until(lambda goal=goal: sum(len(client.versions) for client in clients) >= goal)
                    await kill_a_backend(pg_url)
                    refused = sum(len(client.refused) for client in clients)
                    wait_until(lambda refused=refused: sum(len(client.refused) for client in clients) > refused)
                goal = sum(len(client.versions) for client in clients) + 60
                wait_until(lambda: sum(len(client.versions) for client in clients) >= goal)
            for number, each in enumerate(clients):
                with httpx.Client(base_url=service.url, trust_env=False) as client:
                    listed = client.get(each.place.rpartition("/")[0])
                assert each.kept <= listed.json()["data"][number]["apartment"] <= each.sent
                assert each.versions == sorted(set(each.versions))
                assert each.versions[-1] <= int(listed.headers["etag"].strip('"').split("-")[0])
            for import_number in range(IMPORTS):
                versions = [version for each in clients[import_number::IMPORTS] for version in each.versions]
                assert len(versions) == len(set(versions)), "no two corrections made one version"
            for answer in (answer for each in clients for answer in each.refused):
                assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
