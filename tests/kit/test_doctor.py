"""`kinfolk doctor`: a sound installation is called sound, and each fault that is planted is found and named."""

import asyncio
import os
import resource
import shutil
import socket
import sys
import threading
import zoneinfo
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiormq
import asyncpg
import pytest
import time_machine
from tests.conftest import run_sql
from tests.kit.test_migrate import REVISIONS, aged
from tests.postgres_places import IS_ROOT, NAMED, copy_of_ready, open_directory
from tests.redis_server import RedisServer
from tests.running import Service, kinfolk

from kinfolk.cli import run
from kinfolk.kit import doctor
from kinfolk.kit.doctor import CHECKS, Place, database, examine, machine, neighbours
from kinfolk.kit.doctor.findings import Finding, Findings
from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.lanes import Lane
from kinfolk.kit.migrate import upgrade
from kinfolk.kit.rabbit import connected, declare
from kinfolk.kit.settings import (
    AmqpSettings,
    CacheSettings,
    ClientSettings,
    DatabaseSettings,
    FileSettings,
    ProcessSettings,
    ServingSettings,
    WebSettings,
)

Room = namedtuple("Room", "total used free")


async def found(check: Any, client: Any = None, origins: Any = None, lanes: Any = (), **settings: Any) -> list[Finding]:
    place = Place(
        settings=ServingSettings(**settings), client=client or ClientSettings(), origins=origins or {}, lanes=lanes
    )
    return [finding async for finding in examine(place, [check])]


async def only(check: Any, **settings: Any) -> tuple[str, str]:
    [finding] = await found(check, **settings)
    return finding.verdict, finding.what


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    """A server with fsync on, its tables at the head."""
    with open_directory() as directory, EmbeddedPostgres(copy_of_ready(directory)) as server:
        upgrade(server.start())
        yield server


def test_a_sound_installation_is_called_sound(embedded: EmbeddedPostgres, service: Service) -> None:
    settings = {"KINFOLK_DATA_DIR": str(embedded.data_dir), "KINFOLK_API_URL": service.url}
    done = kinfolk("doctor", "--api-port", str(service.port), **settings)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), lines
    assert not [line for line in lines if line.startswith("wrong")]
    assert f"ok     the tables are at revision {REVISIONS[-1]}" in lines
    assert "ok     what was answered is on the disk" in lines
    version = machine.choose_binaries(None, NAMED).version
    assert any(line.startswith(f"ok     PostgreSQL {version}, database ") for line in lines), version
    assert f"ok     port {service.port} is taken by Kinfolk" in lines
    assert f"ok     {service.url} is ready: database answers, migrations at head" in lines


def test_what_is_wrong_is_told_and_makes_the_exit_code_1(tmp_path: Path) -> None:
    done = kinfolk("doctor", "--pg-url", "postgresql://kin:secret@127.0.0.1:1/kin", "--user", "nobody-at-all")
    assert done.returncode == 1
    assert "wrong  --user nobody-at-all: there is no such user: useradd --system nobody-at-all" in done.stdout
    assert "wrong  PostgreSQL does not let us in: " in done.stdout
    assert "secret" not in done.stdout


async def test_a_check_that_cannot_be_made_is_a_finding() -> None:
    async def broken(_place: Place) -> Findings:
        raise RuntimeError("no")
        yield

    assert await only(broken) == ("wrong", "broken could not be looked at (RuntimeError: no)")
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
    assert doctor.CHECKS is CHECKS


async def test_settings_and_who_can_read_their_file(tmp_path: Path) -> None:
    config = tmp_path / "kinfolk.toml"
    config.write_text('pg_url = "postgresql://…"')
    config.chmod(0o600)
    file = FileSettings(config=config)
    assert await only(machine.settings, file=file, origins={"pg_url": "flag"}) == ("ok", "settings: pg_url by flag")
    config.chmod(0o644)
    assert (await found(machine.settings, file=file))[1].mend == f"chmod go-r {config}"
    config.write_text("workers = 2")
    assert await only(machine.settings, file=file) == ("ok", "settings: all as they are by default")
    assert (await found(machine.settings, web=WebSettings(trusted_proxies="nginx")))[1].mend == "mend --trusted-proxies"


async def test_the_user() -> None:
    assert await found(machine.user) == []
    assert (await only(machine.user, process=ProcessSettings(user="root")))[0] == "ok"
    assert (await only(machine.user, process=ProcessSettings(user="nobody-at-all")))[0] == "wrong"


@pytest.mark.parametrize(
    ("most", "verdict", "said"),
    [
        (1_000, "wrong", "a process may open only 1000 files"),
        (2_000, "look", "a process may open 2000 files, which is too few for --sockets 2000"),
        (4_000, "ok", "a process may open 4000 files, and --sockets is 2000"),
        (resource.RLIM_INFINITY, "ok", "a process may open any number of files"),
    ],
)
async def test_the_limit_of_files(most: int, verdict: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system lets a process take counts, not what it begins with."""
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, most))
    assert await only(machine.file_limit) == (verdict, said)


async def test_time_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await only(machine.zones))[0] == "ok"
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"] + ["tzdata"]:
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert await only(machine.zones) == ("wrong", "there is no time zone data")
    finally:
        zoneinfo.reset_tzpath()


async def data_dir(folder: Path, pg_bin: Path | None = None) -> list[Finding]:
    return await found(machine.data_dir, database=DatabaseSettings(data_dir=folder, pg_bin=pg_bin))


async def test_the_data_directory(embedded: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_server = DatabaseSettings(pg_url="postgresql://elsewhere/kin")
    assert await found(machine.data_dir, database=own_server) == await found(machine.disk, database=own_server) == []
    [finding] = await data_dir(embedded.data_dir)
    assert (finding.verdict, "fits PostgreSQL" in finding.what) == ("ok", True)
    assert (await data_dir(tmp_path / "absent"))[0].mend == "kinfolk up makes it"
    cluster = tmp_path / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("13\n")
    [finding] = await data_dir(tmp_path)
    assert (finding.verdict, "made by PostgreSQL 13" in finding.mend) == ("wrong", True)
    (cluster / "PG_VERSION").write_text("18\n")
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert [each.verdict for each in await data_dir(tmp_path)] == ["look", "ok"]
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 4_711)
    [finding] = await data_dir(tmp_path)
    assert (finding.verdict, f"not to {owner + 4_711}" in finding.what) == ("wrong", True)
    if IS_ROOT:
        monkeypatch.undo()
        os.chown(tmp_path, 4_711, -1)
        assert [each.verdict for each in await data_dir(tmp_path)] == ["look", "look", "ok"]


@pytest.mark.parametrize(("free", "verdict"), [(500e6, "wrong"), (5e9, "look"), (50e9, "ok")])
async def test_room_on_the_disk(free: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Room(100e9, 100e9 - free, free))
    settings = DatabaseSettings(data_dir=tmp_path / "not" / "there")
    assert await only(machine.disk, database=settings) == (
        verdict,
        f"{free / 1e9:.1f} GB of 100.0 GB are free for the data",
    )


async def asked(url: str, **settings: Any) -> dict[str, Finding]:
    """The findings on a database, by the first word of each."""
    findings = await found(database.postgresql, database=DatabaseSettings(pg_url=url), **settings)
    return {finding.what: finding for finding in findings}


def about(findings: dict[str, Finding], words: str) -> str:
    [verdict] = [finding.verdict for what, finding in findings.items() if words in what]
    return verdict


@pytest.fixture(scope="module")
def sick(make_database: Any) -> str:
    """On a server without fsync, in another encoding, and it never was migrated."""
    url: str = make_database("sick", is_empty=True)
    run_sql(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    return url


async def test_a_server_that_does_not_run_is_not_started(tmp_path: Path) -> None:
    settings = DatabaseSettings(data_dir=tmp_path)
    verdict, what = await only(database.postgresql, database=settings)
    assert (verdict, what.startswith("the embedded PostgreSQL does not run")) == ("look", True)
    assert list(tmp_path.iterdir()) == []


async def test_faults_of_a_database(sick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = await asked(sick)
    assert about(findings, "synchronous_commit is off") == about(findings, "fsync is off") == "wrong"
    assert about(findings, "there are no tables") == "wrong"
    conn = await asyncpg.connect(sick)
    await conn.execute("CREATE TABLE alembic_version (version_num text)")
    for revision, verdict, words in [
        (REVISIONS[0], "wrong", f"are at revision {REVISIONS[0]}, not {REVISIONS[-1]}"),
        ("zz99", "look", "are at revision zz99, which this Kinfolk does not know"),
        (REVISIONS[-1], "ok", f"are at revision {REVISIONS[-1]}"),
    ]:
        await conn.execute("TRUNCATE alembic_version")
        await conn.execute("INSERT INTO alembic_version VALUES ($1)", revision)
        assert about(await asked(sick), words) == verdict
    monkeypatch.setattr(database, "LEAST_DEAD_ROWS", 0)
    await conn.execute("CREATE TABLE worn (n int) WITH (autovacuum_enabled = off)")
    await conn.execute("INSERT INTO worn SELECT 1 FROM generate_series(1, 10)")
    await conn.execute("DELETE FROM worn")
    await conn.execute("SELECT pg_stat_force_next_flush()")
    assert about(await asked(sick), "worn has 10 dead rows") == "look"
    await conn.close()


async def test_the_last_backup(make_database: Any, tmp_path: Path) -> None:
    url = await asyncio.to_thread(make_database, "backed")
    assert about(await asked(url), "no backup was made") == "look"
    assert await asyncio.to_thread(run, ["backup", str(tmp_path), "--pg-url", url]) == 0
    assert about(await asked(url), "the last backup is of ") == "ok"
    with time_machine.travel(datetime.now(UTC) + timedelta(days=3), tick=True):
        assert about(await asked(url), "the last backup is of ") == "look"


async def test_a_transaction_that_others_wait_for(sick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = await asked(sick)
    assert about(findings, "no transaction is older") == "ok"
    monkeypatch.setattr(database, "LONG_SECONDS", 0)
    holder, waiter = await asyncpg.connect(sick), await asyncpg.connect(sick)
    await holder.execute("BEGIN; SELECT pg_advisory_xact_lock(1)")
    assert about(await asked(sick), "and 0 wait for it") == "look"
    waiting = asyncio.create_task(waiter.execute("SELECT pg_advisory_lock(1)"))
    async with asyncio.timeout(60):
        while not await holder.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"):
            await asyncio.sleep(0.02)
    assert about(await asked(sick), "and 1 wait for it") == "wrong"
    await holder.close()
    await waiting
    await waiter.close()


async def test_connections_and_clocks(sick: str) -> None:
    findings = await asked(sick)
    assert about(findings, "up may take 33 connections") == about(findings, "the clocks") == "ok"
    assert about(await asked(sick, web=WebSettings(workers=50)), "up may take 572") == "look"
    assert about(await asked(sick, amqp=AmqpSettings(amqp_url="amqp://x")), "up may take 43 connections") == "ok"
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=True):
        findings = await asked(sick)
    assert about(findings, "the clocks here and at the database are 3") == "wrong"


async def test_versions_and_habits_of_a_server(sick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of a whole server are planted in what it answers: it is the other tests' server, too."""
    monkeypatch.setattr(database, "MAJORS", range(14, 15))
    assert about(await asked(sick), "is newer than any that was tried") == "look"
    asked_for = asyncpg.Connection.fetchval

    async def fetchval(self: Any, query: str, *values: Any) -> Any:
        planted = {"SHOW server_encoding": "LATIN1", "SHOW autovacuum": "off"}
        return planted.get(query) or await asked_for(self, query, *values)

    monkeypatch.setattr(asyncpg.Connection, "fetchval", fetchval)
    findings = await asked(sick)
    assert about(findings, "in LATIN1") == about(findings, "autovacuum is off") == "wrong"


async def test_an_old_server_is_wrong(sick: str) -> None:
    with aged(f"{sick}?sslmode=disable") as url:
        assert about(await asked(url), "PostgreSQL 14 is too old") == "wrong"


@contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """Another program at a port, which says this to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                with near:
                    near.recv(65_536)
                    near.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


async def test_the_port(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def port(number: int, address: str = "127.0.0.1") -> tuple[str, str]:
        return await only(neighbours.port, web=WebSettings(api_address=address, api_port=number))

    assert await found(neighbours.port, web=WebSettings(uds=tmp_path / "socket")) == []
    assert await port(service.port) == ("ok", f"port {service.port} is taken by Kinfolk")
    with listening() as number:
        who = Path("/proc/self/comm").read_text().strip()
        assert await port(number) == ("wrong", f"port {number} is taken by {who}, process {os.getpid()}")
        monkeypatch.setattr(neighbours, "PROC", tmp_path)
        assert await port(number) == ("wrong", f"port {number} is taken by a process that this user cannot see")
    assert await port(number) == ("ok", f"port {number} is free")
    assert (await port(number, "::1"))[0] in {"ok", "wrong"}
    assert (await port(number, "203.0.113.1"))[0] == "wrong"


async def test_the_running_service(service: Service, make_database: Any) -> None:
    async def at(url: str) -> tuple[str, str]:
        return await only(neighbours.service, client=ClientSettings(api_url=url))

    assert (await at(service.url))[0] == "ok"
    with listening() as number:
        pass
    assert await at(f"http://who:secret@127.0.0.1:{number}") == (
        "look",
        f"no service answers at http://127.0.0.1:{number}",
    )
    for body, verdict, words in [
        (b"hello", "wrong", "is not Kinfolk"),
        (b"[]", "wrong", "is not Kinfolk"),
        (b'{"status":"not ready","database":"away"}', "wrong", "is not ready"),
    ]:
        head = b"HTTP/1.1 503 Away\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        with listening(head + body) as number:
            said = await at(f"http://127.0.0.1:{number}")
            assert (said[0], words in said[1]) == (verdict, True)
    assert (await at("nowhere"))[0] == "wrong"


async def test_redis(redis_server: RedisServer) -> None:
    assert await found(neighbours.redis) == []
    assert await only(neighbours.redis, cache=CacheSettings(redis_url=redis_server.url)) == ("ok", "Redis answers")
    for url in ("redis://127.0.0.1:1/0", "http://127.0.0.1"):
        verdict, said = await only(neighbours.redis, cache=CacheSettings(redis_url=url))
        assert (verdict, said.startswith("Redis does not answer")) == ("wrong", True)


async def test_rabbitmq(amqp_url: str) -> None:
    lane = Lane("doctor.main", exchange="doctor.exchange")

    async def lanes(url: str | None) -> list[tuple[str, str]]:
        findings = await found(neighbours.rabbitmq, amqp=AmqpSettings(amqp_url=url), lanes=[lane])
        return [(finding.verdict, finding.what) for finding in findings]

    assert await lanes(None) == []
    assert (await lanes("amqp://127.0.0.1:1/v"))[0][0] == "wrong"
    assert await lanes(amqp_url) == [("look", "the queues of doctor.main are not there")]
    async with connected(amqp_url) as connection:
        channel = await connection.channel()
        await declare(channel, lane, (5.0,))
        assert await lanes(amqp_url) == [("look", "nobody takes from doctor.main, where 0 wait")]
        await channel.basic_consume(lane.name, _ignored)
        assert await lanes(amqp_url) == [("ok", "doctor.main has 1 consumers, and nothing is parked")]
        await channel.basic_publish(b"{}", routing_key=lane.parking)
        assert await lanes(amqp_url) == [("look", "1 messages of doctor.main are parked")]


async def _ignored(_message: aiormq.abc.DeliveredMessage) -> None:
    """Takes what comes."""
