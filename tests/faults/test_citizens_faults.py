"""Registers on their way while a process is killed: what was answered 201 is whole, and nothing is there in part."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import copy_of_ready, open_directory, processes_in
from tests.running import Service
from tests.waiting import wait_until

from kinfolk.kit.db import Database
from kinfolk.kit.embedded_postgres import EmbeddedPostgres

CITIZENS = 400
TIES = CITIZENS // 2
REGISTER = {"citizens": [a_citizen(number, relatives=[number ^ 1]) for number in range(CITIZENS)]}
CLIENTS = 4
Answer = httpx.Response | httpx.TransportError


@contextmanager
def posting(url: str) -> Iterator[list[Answer]]:
    """Clients that send registers one after another; gives what became of them, in the end of all."""
    answers: list[Answer] = []
    is_over = threading.Event()

    def post() -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while not is_over.is_set():
                try:
                    answers.append(client.post("/imports", json=REGISTER))
                except httpx.TransportError as error:
                    answers.append(error)
                    time.sleep(0.05)

    clients = [threading.Thread(target=post) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        is_over.set()
        for client in clients:
            client.join()


def added(answers: list[Answer]) -> list[int]:
    return [
        answer.json()["data"]["import_id"]
        for answer in list(answers)
        if isinstance(answer, httpx.Response) and answer.status_code == 201
    ]


async def sizes(url: str) -> dict[int, tuple[int, int]]:
    """Of every import, and of every number that citizens or ties name as theirs: how many of each there are."""
    async with Database(url, size=1) as db, db.snapshot() as conn:
        rows = await conn.fetch(
            "SELECT import_id, (SELECT count(*) FROM citizens c WHERE c.import_id = i.import_id),"
            " (SELECT count(*) FROM ties t WHERE t.import_id = i.import_id) FROM"
            " (SELECT import_id FROM imports UNION SELECT import_id FROM citizens UNION SELECT import_id FROM ties) i"
        )
        known = {row[0] for row in await conn.fetch("SELECT import_id FROM imports")}
    assert known == {row[0] for row in rows}, "citizens without an import"
    return {row[0]: (row[1], row[2]) for row in rows}


async def check_whole(url: str, answers: list[Answer]) -> None:
    there = await sizes(url)
    assert set(there.values()) == {(CITIZENS, TIES)}
    assert set(added(answers)) <= there.keys()


@pytest.fixture
def killed_url(make_database: Any) -> str:
    url: str = make_database("killed")
    return url


@pytest.mark.parametrize("_turn", range(2))
async def test_the_api_is_killed(killed_url: str, _turn: int) -> None:
    with Service("api", "--pg-url", killed_url) as service:
        family = [service.process, *psutil.Process(service.process.pid).children(recursive=True)]
        with posting(service.url) as answers:
            wait_until(lambda: len(added(answers)) >= 8)
            for process in family:
                os.kill(process.pid, signal.SIGKILL)
            wait_until(lambda: any(isinstance(answer, httpx.TransportError) for answer in answers))
        service.process.wait()
    await check_whole(killed_url, answers)


async def test_postgresql_crashes_and_recovers() -> None:
    """A backend is killed, so the server throws everybody out and starts again, as after a crash."""
    with open_directory() as place, EmbeddedPostgres(copy_of_ready(place, is_migrated=True)) as postgres:
        url = postgres.start()
        with Service("api", "--pg-url", url) as service, posting(service.url) as answers:
            for _ in range(2):
                count = len(added(answers))
                wait_until(lambda count=count: len(added(answers)) >= count + 8)
                await kill_a_backend(url)
                wait_until(lambda count=count: len(added(answers)) >= count + 16)
        refused = [answer for answer in answers if not (isinstance(answer, httpx.Response) and answer.is_success)]
        assert refused, "nobody noticed: this shows nothing"
        for answer in refused:
            assert isinstance(answer, httpx.Response), answer
            assert answer.status_code >= 500
            assert answer.headers["content-type"] == "application/problem+json"
        await check_whole(url, answers)


async def kill_a_backend(url: str) -> None:
    conn = await asyncpg.connect(url)
    pid = await conn.fetchval("SELECT pid FROM pg_stat_activity WHERE application_name = 'kinfolk' LIMIT 1")
    conn.terminate()
    os.kill(pid, signal.SIGKILL)


async def test_the_postmaster_of_a_running_kinfolk_is_killed() -> None:
    """`kinfolk up` starts its PostgreSQL again; nothing acknowledged is lost, and nothing is left behind."""
    with open_directory() as place:
        data_dir = copy_of_ready(place, is_migrated=True)
        with Service("up", "--data-dir", str(data_dir)) as service:
            pid_file = data_dir / "postgres/postmaster.pid"
            with posting(service.url) as answers:
                wait_until(lambda: len(added(answers)) >= 8)
                killed = int(pid_file.read_text().split()[0])
                os.kill(killed, signal.SIGKILL)
                service.says("event=database_died")
                count = len(added(answers))
                wait_until(lambda: len(added(answers)) >= count + 8)
            for answer in answers:
                assert isinstance(answer, httpx.Response), answer
                assert answer.is_success or answer.status_code >= 500, answer.text
            assert len(answers) > len(added(answers)), "nobody noticed: this shows nothing"
            with EmbeddedPostgres(data_dir) as joined:
                assert not joined.is_ours
                assert joined.pid != killed
                await check_whole(joined.start(), answers)
            server = joined.cluster
        assert service.end() == 0
        wait_until(lambda: not processes_in(server))


async def test_a_postgresql_that_cannot_start_again_ends_kinfolk() -> None:
    with open_directory() as place:
        data_dir = copy_of_ready(place, is_migrated=True)
        with Service("up", "--data-dir", str(data_dir)) as service:
            (data_dir / "postgres/global/pg_control").unlink()
            os.kill(int((data_dir / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            assert service.process.wait(60) == 3
            service.says("event=cannot_mend")
            service.says(f"The end of {data_dir}/postgres.log")
