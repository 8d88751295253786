"""What the embedded PostgreSQL starts, for whom, and what it refuses, each refusal beside its happy twin."""

import fcntl
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.postgres_places import (
    IS_ROOT,
    NAMED,
    ORDINARY_ID,
    SYSTEM,
    USERS,
    Owner,
    copy_of_ready,
    eventually,
    fake_programs,
    is_alive,
    open_directory,
)

from kinfolk.kit import postgres_binaries
from kinfolk.kit.embedded_postgres import LOG_LIMIT_BYTES, CannotStart, EmbeddedPostgres
from kinfolk.kit.postgres_account import server_account
from kinfolk.kit.postgres_binaries import choose_binaries


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as place:
        yield place


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all tests: a copy takes a second, and each leaves it with a cluster that starts."""
    with open_directory() as place:
        yield copy_of_ready(place)


async def ask(url: str, question: str, **options: object) -> object:
    connection = await asyncpg.connect(url, **options)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def contents(tree: Path) -> dict[Path, tuple[int, int, int]]:
    return {path: ((facts := path.lstat()).st_mtime_ns, facts.st_size, facts.st_mode) for path in tree.rglob("*")}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("user", USERS)
async def test_a_first_start_makes_a_safe_database(user: str) -> None:
    with open_directory(user) as place, Owner(place / "new" / "data", user) as owner:
        data_dir, facts = place / "new" / "data", owner.next_facts()
        assert facts["is_ours"]
        assert facts["uid"] == (0 if user == "root" else ORDINARY_ID)
        url = facts["url"]
        assert urlsplit(url).hostname == "127.0.0.1"
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "jit": "off",
            "listen_addresses": "127.0.0.1",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "max_connections": "100",
        }.items():
            assert await ask(url, f"SHOW {name}") == value, name
        assert await ask(url, "SELECT lower('ЖÖ') || min(n) FROM (VALUES ('б'), ('Я'), ('z')) AS names (n)") == "жöz"
        assert await ask(url, "SELECT current_database() || current_user") == "kinfolkkinfolk"
        assert await ask(url, "SELECT rolsuper::int FROM pg_roles WHERE rolname = current_user") == 0
        assert await ask(url, "SELECT 1", database="postgres") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(url, "SELECT 1", password="wrong")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(url, "SELECT 1", user="postgres")
        process = Path(f"/proc/{facts['pid']}")
        assert process.stat().st_uid == (data_dir / "postgres").stat().st_uid != 0
        assert os.getsid(facts["pid"]) == facts["pid"]
        assert mode(data_dir) == (0o711 if user == "root" else 0o700)
        assert mode(data_dir / "postgres") == 0o700
        for private in ("postgres.password", "postgres.log", "postgres.lock", "postgres.json"):
            assert mode(data_dir / private) == 0o600, private
        assert not list(data_dir.glob("postgres.new-*"))
        assert owner.end() == 0
        assert not is_alive(facts["pid"])


async def test_start_may_be_called_again_and_stop_too(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    assert (postgres.is_running, postgres.pid, postgres.port, postgres.socket_dir) == (False, None, None, None)
    with postgres:
        pid = postgres.pid
        assert pid is not None
        url = postgres.start()
        assert postgres.pid == pid
        assert f":{postgres.port}/" in url
        assert await ask(url, "SELECT 1") == 1
        assert await ask(url, "SELECT 2", host=str(postgres.socket_dir), port=postgres.port) == 2
    assert not postgres.is_running
    assert not postgres.is_ours
    assert not is_alive(pid)
    postgres.stop()
    with postgres:
        assert postgres.start() == url, "the address lasts"


def test_a_warm_start_is_a_small_part_of_a_first_one(directory: Path, data_dir: Path) -> None:
    """Counted is what processors did, so that it holds on a busy machine, too."""

    def processor_seconds(place: Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with EmbeddedPostgres(place):
            """It runs."""
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    first = processor_seconds(directory / "new")
    assert min(processor_seconds(data_dir) for _ in range(3)) < first / 2


async def test_who_comes_second_joins(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as first:
        second = EmbeddedPostgres(data_dir)
        url = second.start()
        assert not second.is_ours
        assert second.pid == first.pid
        assert url == first.start() == second.start()
        second.stop()
        assert await ask(url, "SELECT 1") == 1
        second.start()
    assert not second.is_running
    assert second.start() == url
    assert second.is_ours
    second.stop()


def test_who_waits_for_an_owner_without_a_server_gives_up(data_dir: Path) -> None:
    address = {"pid": os.getpid(), "port": 5432, "socket_dir": ""}  # a killed server's, its number another's by now
    (data_dir / "postgres.json").write_text(json.dumps(address))
    with (data_dir / "postgres.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CannotStart, match=r"(?s)does not answer.*fuser -v"):
            EmbeddedPostgres(data_dir, patience_seconds=0.1).start()


def test_who_waits_becomes_the_owner_once_the_other_lets_go(data_dir: Path) -> None:
    with (data_dir / "postgres.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        release = threading.Timer(0.2, fcntl.flock, (lock, fcntl.LOCK_UN))
        release.start()
        with EmbeddedPostgres(data_dir, patience_seconds=20) as postgres:
            assert postgres.is_ours
        release.join()


def test_a_taken_port_is_given_up_for_another(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        port = postgres.port
    with socket.create_server(("127.0.0.1", port)), postgres:
        assert postgres.is_running
        assert postgres.port != port
    assert "could not create any TCP/IP sockets" in postgres.log_path.read_text()


def test_when_every_port_is_taken_the_operator_hears_of_it(directory: Path, data_dir: Path) -> None:
    programs = fake_programs(directory / "bin", "could not create any TCP/IP sockets")
    with pytest.raises(CannotStart, match="Each of 5 free ports"):
        EmbeddedPostgres(data_dir, binaries=programs).start()
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.is_running


def test_a_server_that_fails_is_quoted_and_leaves_the_lock(data_dir: Path) -> None:
    settings = data_dir / "postgres" / "postgresql.conf"
    right = settings.read_text()
    settings.write_text(right + "\nshared_buffers = plenty\n")
    postgres = EmbeddedPostgres(data_dir)
    with pytest.raises(CannotStart, match=r"(?s)postgres\.log:.*shared_buffers"):
        postgres.start()
    assert not postgres.is_ours
    settings.write_text(right)
    with EmbeddedPostgres(data_dir) as mended:
        assert mended.is_ours


def test_an_initdb_that_fails_is_quoted_and_leaves_no_cluster(directory: Path) -> None:
    programs = fake_programs(directory / "bin", "no")
    (programs / "initdb").write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
    (programs / "initdb").chmod(0o755)
    postgres = EmbeddedPostgres(directory / "data", binaries=programs)
    with pytest.raises(CannotStart, match=r"(?s)initdb failed.*the disk is full"):
        postgres.start()
    assert not postgres.cluster.exists()


@pytest.mark.parametrize(("major", "said"), [("17", "no programs of that version.*postgresql-17"), ("14", "15 to 18")])
def test_data_of_a_major_without_programs_are_not_touched(
    data_dir: Path, major: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = data_dir / "postgres" / "PG_VERSION"
    own = version.read_text()
    version.write_text(f"{major}\n")
    before = contents(data_dir / "postgres")
    with monkeypatch.context() as bare:
        bare.setattr(postgres_binaries, "SYSTEM", data_dir)  # whatever this machine has installed
        bare.setenv("PATH", "/usr/bin:/bin")
        with pytest.raises(CannotStart, match=rf"(?s)by PostgreSQL {major}, .*{said}") as refusal:
            EmbeddedPostgres(data_dir).start()
    assert "Nothing was touched" in str(refusal.value)
    assert contents(data_dir / "postgres") == before
    version.write_text(own)
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.is_ours


async def test_data_get_the_programs_of_their_version(directory: Path) -> None:
    assert SYSTEM.exists(), "the tests need a PostgreSQL of the machine's own: tools/test-servers"
    data_dir = copy_of_ready(directory, binaries=SYSTEM)
    with EmbeddedPostgres(data_dir) as postgres:  # the wheel's come first, and do not fit
        url = postgres.start()
        assert str(await ask(url, "SHOW server_version")).startswith(f"{SYSTEM.parent.name}.")
        assert await ask(url, "SELECT lower('ЖÖ') || min(n) FROM (VALUES ('б'), ('Я'), ('z')) AS names (n)") == "жöz"


async def test_a_lost_password_is_replaced(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as postgres:
        before = postgres.start()
    (data_dir / "postgres.password").unlink()
    with postgres:
        assert postgres.start() != before
        assert await ask(postgres.start(), "SELECT 1") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(before, "SELECT 1")


def test_what_is_no_cluster_is_left_alone(directory: Path) -> None:
    (directory / "data" / "postgres").mkdir(parents=True)
    (directory / "data" / "postgres" / "letter.txt").touch()
    (directory / "data").chmod(0o711)
    with pytest.raises(CannotStart, match="holds no PostgreSQL data"):
        EmbeddedPostgres(directory / "data").start()
    assert [path.name for path in (directory / "data" / "postgres").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(("size_bytes", "is_rotated"), [(LOG_LIMIT_BYTES, False), (LOG_LIMIT_BYTES + 1, True)])
def test_a_long_log_makes_room(data_dir: Path, size_bytes: int, is_rotated: bool) -> None:
    with (data_dir / "postgres.log").open("a") as log:
        log.truncate(size_bytes)
    with EmbeddedPostgres(data_dir) as postgres:
        assert (postgres.log_path.stat().st_size < LOG_LIMIT_BYTES) == is_rotated
    assert (data_dir / "postgres.log.1").exists() == is_rotated
    (data_dir / "postgres.log.1").unlink(missing_ok=True)


async def test_a_path_too_long_for_a_socket(directory: Path) -> None:
    deep = directory / ("long" * 25)
    deep.mkdir()
    data_dir = copy_of_ready(deep)
    with EmbeddedPostgres(data_dir) as postgres:
        near = postgres.socket_dir
        assert near is not None
        assert mode(near) == 0o700
        assert not near.is_relative_to(directory)
        assert await ask(postgres.start(), "SELECT 3", host=str(near), port=postgres.port) == 3
    assert not near.exists()


def test_a_data_dir_that_is_a_file(directory: Path) -> None:
    (directory / "data").touch()
    with pytest.raises(CannotStart, match="choose another --data-dir"):
        EmbeddedPostgres(directory / "data").start()


def test_accounts(directory: Path) -> None:
    none_yet = directory / "postgres"
    assert server_account(none_yet, 0, ("no-such-user", "nobody")).name == "nobody"
    with pytest.raises(CannotStart, match=r"(?s)no-such-user exists.*useradd --system kinfolk"):
        server_account(none_yet, 0, ("no-such-user",))
    assert server_account(none_yet, 4_000_000_000).name == "4000000000"
    os.chown(directory, ORDINARY_ID, -1)
    assert server_account(directory, 0, ("no-such-user",)).uid == ORDINARY_ID


if IS_ROOT:

    def test_a_closed_parent_is_named_and_stays_closed(directory: Path) -> None:
        closed = directory / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(CannotStart, match=rf"chmod o\+x {closed}$"):
            EmbeddedPostgres(closed / "data").start()
        assert mode(closed) == 0o700
        closed.chmod(0o711)
        with EmbeddedPostgres(copy_of_ready(closed)) as postgres:
            assert postgres.is_running

    def test_an_empty_closed_data_dir_is_opened_and_a_full_one_is_not(directory: Path) -> None:
        programs = fake_programs(directory / "bin", "no")  # stops at initdb, which is far enough
        data_dir = directory / "data"
        data_dir.mkdir(mode=0o700)
        (data_dir / "letter.txt").touch()
        with pytest.raises(CannotStart, match=rf"chmod o\+x {data_dir}$"):
            EmbeddedPostgres(data_dir, binaries=programs).start()
        assert mode(data_dir) == 0o700
        (data_dir / "letter.txt").unlink()
        with pytest.raises(CannotStart, match="initdb failed"):
            EmbeddedPostgres(data_dir, binaries=programs).start()
        assert mode(data_dir) == 0o711

    def test_a_wheel_under_a_closed_directory_is_copied(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binaries = choose_binaries(None, None)
        data_dir = copy_of_ready(directory, binaries=binaries.folder if NAMED else None)
        package = binaries.folder.parents[1]
        closed = directory / "closed"
        closed.mkdir(mode=0o700)
        for tree in (binaries.folder.parent.relative_to(package.parent), Path(f"{package.name}.libs")):
            (closed / tree).parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", package.parent / tree, closed / tree], check=True)
        (closed / package.name / "__init__.py").touch()
        subprocess.run(["chmod", "-R", "go-rwx", closed], check=True)
        monkeypatch.syspath_prepend(str(closed))
        for earlier in data_dir.glob("postgres-*"):  # the checkout may itself lie under a closed directory
            shutil.rmtree(earlier)
        (data_dir / "postgres-1.0").mkdir()
        with EmbeddedPostgres(data_dir) as postgres:
            copy = data_dir / f"postgres-{binaries.version}"
            assert Path(f"/proc/{postgres.pid}/exe").readlink().is_relative_to(copy)
            assert copy.stat().st_uid == 0, "the server cannot change its own programs"
        assert [path.name for path in data_dir.glob("postgres-*")] == [copy.name]
        copied = copy.stat().st_mtime_ns
        with postgres:
            assert copy.stat().st_mtime_ns == copied

    def test_closed_programs_of_the_operators_own(directory: Path, data_dir: Path) -> None:
        programs = fake_programs(directory / "bin", "no")
        programs.chmod(0o700)
        with pytest.raises(CannotStart, match=rf"(?s)cannot be run by user.*chmod o\+x {programs}$"):
            EmbeddedPostgres(data_dir, binaries=programs).start()
        programs.chmod(0o755)
        (programs / "postgres").chmod(0o700)
        with pytest.raises(CannotStart, match=rf"chmod o\+x {programs}/postgres$"):
            EmbeddedPostgres(data_dir, binaries=programs).start()

    def test_root_serves_an_ordinary_users_data_as_that_user(directory: Path) -> None:
        data_dir = copy_of_ready(directory, "ordinary")
        with EmbeddedPostgres(data_dir) as postgres:
            assert Path(f"/proc/{postgres.pid}").stat().st_uid == ORDINARY_ID

    def test_an_ordinary_user_is_refused_roots_data(data_dir: Path) -> None:
        with Owner(data_dir, "ordinary") as owner:
            assert "Permission denied" in owner.next_facts()["refused"]
            assert owner.end() == 0
        with EmbeddedPostgres(data_dir) as postgres:
            assert eventually(lambda: postgres.is_running)
