"""The embedded PostgreSQL when something is killed, stale, stopped or started twice."""

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.postgres_places import (
    IS_ROOT,
    USERS,
    Owner,
    contained,
    copy_of_ready,
    eventually,
    fake_programs,
    is_alive,
    open_directory,
    processes_in,
)

from kinfolk.kit.embedded_postgres import CannotStart, EmbeddedPostgres
from kinfolk.kit.postgres_account import server_account
from kinfolk.kit.postgres_binaries import choose_binaries, reachable_folder
from kinfolk.kit.postgres_cluster import ROLE, end_leftovers, pinned_major

CONNECTION_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all tests: a copy takes a second, and each leaves it with a cluster that starts."""
    with open_directory() as place:
        yield copy_of_ready(place)


@pytest.mark.parametrize("user", USERS)
def test_a_killed_owner_takes_its_server_along(user: str) -> None:
    with open_directory(user) as place:
        data_dir = copy_of_ready(place, user)
        with Owner(data_dir, user) as owner:
            pid = owner.next_facts()["pid"]
            assert is_alive(pid)
            assert len(processes_in(data_dir / "postgres")) > 1
            owner.process.kill()
            assert eventually(lambda: not processes_in(data_dir / "postgres"))
        with Owner(data_dir, user) as heir:
            assert heir.next_facts()["is_ours"]
            assert heir.end() == 0


def test_a_start_right_after_the_owner_was_killed(data_dir: Path) -> None:
    for _ in range(3):
        with Owner(data_dir) as owner:
            pid = owner.next_facts()["pid"]
            owner.process.kill()
            owner.process.wait()
            with EmbeddedPostgres(data_dir) as postgres:
                assert postgres.is_ours
                assert postgres.pid != pid


async def test_acknowledged_rows_outlive_a_killed_server(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    url = postgres.start()
    acknowledged: list[int] = []

    async def write() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE rows (n int PRIMARY KEY)")
        for n in range(1_000_000):
            await connection.execute("INSERT INTO rows VALUES ($1)", n)
            acknowledged.append(n)

    writer = asyncio.create_task(write())
    busy = await asyncpg.connect(url)  # a backend that does not look up for long
    looping = asyncio.create_task(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    while len(acknowledged) < 100:
        await asyncio.sleep(0.01)
    killed = postgres.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    try:
        assert eventually(lambda: not postgres.is_running)
        assert processes_in(postgres.cluster), "the busy backend should still be there, or this shows nothing"
        url = postgres.start()
        for ended in (writer, looping):
            with suppress(*CONNECTION_LOST):
                await ended
        busy.terminate()
        connection = await asyncpg.connect(url)
        kept = {row["n"] for row in await connection.fetch("SELECT n FROM rows")}
        await connection.close()
        assert set(acknowledged) <= kept <= set(range(len(acknowledged) + 1))
    finally:
        postgres.stop()


def stale_pid_file(cluster: Path, pid: int) -> Path:
    """What a server leaves that was killed when it was ready."""
    path = cluster / "postmaster.pid"
    path.write_text(f"{pid}\n{cluster}\n1700000000\n5432\n\n127.0.0.1\n\nready   \n")
    return path


def test_a_stale_pid_file_whose_number_is_anothers_by_now(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    account = server_account(cluster, os.geteuid())
    bystander = account.begin(["sleep", "60"], subprocess.DEVNULL)
    # one of the same user in the same directory, as an operator's shell may be
    looking_on = subprocess.Popen(["sleep", "60"], cwd=cluster)
    try:
        stale_pid_file(cluster, bystander.pid)
        assert EmbeddedPostgres(data_dir)._is_ready(bystander.pid)
        assert not EmbeddedPostgres(data_dir)._is_ready(looking_on.pid), "it says ready, and of another"
        with EmbeddedPostgres(data_dir) as postgres:
            assert postgres.pid != bystander.pid
        assert is_alive(bystander.pid)
        assert is_alive(looking_on.pid)
    finally:
        for process in (bystander, looking_on):
            process.kill()
            process.wait()


@pytest.mark.parametrize("said", ["", "nonsense\n", "0"])
def test_a_torn_pid_file(data_dir: Path, said: str) -> None:
    (data_dir / "postgres" / "postmaster.pid").write_text(said)
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.is_ours


@pytest.mark.parametrize("said", ["", "[]", '{"pid": 1}'])
def test_a_torn_address_file(data_dir: Path, said: str) -> None:
    (data_dir / "postgres.json").write_text(said)
    with EmbeddedPostgres(data_dir) as postgres:
        assert EmbeddedPostgres(data_dir).start() == postgres.start()


def serve_without_a_lock(data_dir: Path) -> subprocess.Popen[bytes]:
    """A server whose owner is gone, as where the kernel does not end it."""
    cluster = data_dir / "postgres"
    account = server_account(cluster, os.geteuid())
    program = reachable_folder(choose_binaries(pinned_major(cluster), None), account, data_dir) / "postgres"
    options = ["--listen_addresses=", f"--unix_socket_directories={data_dir / 'postgres.socket'}"]
    server = account.begin([program, "-D", cluster, *options], subprocess.DEVNULL)
    pid_file = cluster / "postmaster.pid"
    assert eventually(lambda: pid_file.exists() and "ready" in pid_file.read_text())
    return server


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_server_without_an_owner_is_ended(data_dir: Path, is_torn: bool) -> None:
    orphan = serve_without_a_lock(data_dir)
    if is_torn:
        (data_dir / "postgres" / "postmaster.pid").write_text("nonsense\n")
    with EmbeddedPostgres(data_dir) as postgres:
        assert orphan.wait(60) == 0
        assert postgres.pid != orphan.pid


def test_a_server_that_does_not_end_is_named_and_left(data_dir: Path) -> None:
    orphan = serve_without_a_lock(data_dir)
    try:
        orphan.send_signal(signal.SIGSTOP)
        with pytest.raises(CannotStart, match=rf"kill -QUIT .*\b{orphan.pid}\b"):
            EmbeddedPostgres(data_dir, patience_seconds=0.2).start()
        assert (data_dir / "postgres" / "postmaster.pid").exists()
    finally:
        orphan.send_signal(signal.SIGCONT)
        orphan.send_signal(signal.SIGQUIT)  # on a busy machine patience is over before it was asked to end
        orphan.wait(60)
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.is_ours


def test_a_server_that_hangs_is_killed_at_the_end(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir, grace_seconds=0.1)
    postgres.start()
    pid = postgres.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    postgres.stop()
    assert not is_alive(pid)
    with postgres:
        assert postgres.is_ours


def test_a_start_cut_short_leaves_nothing_running(data_dir: Path) -> None:
    """Ctrl-C while PostgreSQL recovers, which a program that never gets ready stands in for."""
    programs = fake_programs(data_dir.parent / "bin", "no")
    (programs / "postgres").write_text(
        (programs / "postgres").read_text().replace('echo "no"; exit 1', 'echo "slow $$"; exec sleep 60')
    )
    log = data_dir / "postgres.log"
    found: list[str] = []

    def interrupt() -> None:
        eventually(lambda: bool(found.extend(re.findall(r"slow (\d+)\n", log.read_text())) or found))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    postgres = EmbeddedPostgres(data_dir, binaries=programs)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        postgres.start()
    interrupter.join()
    assert not postgres.is_ours
    assert not is_alive(int(found[0]))
    with EmbeddedPostgres(data_dir) as postgres:
        assert postgres.is_ours


def named_in_words(place: Path) -> list[str]:
    """Command lines in which the place is named."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(place) in line]


def test_an_initdb_killed_midway_leaves_nothing_half() -> None:
    with open_directory() as place:
        data_dir = place / "data"
        with Owner(data_dir) as owner:
            assert eventually(lambda: bool(list(data_dir.glob("postgres.new-*/base/1/*"))))
            owner.process.kill()
        assert eventually(lambda: not named_in_words(data_dir)), "initdb ends with its owner, if not at once"
        assert not (data_dir / "postgres").exists()
        assert list(data_dir.glob("postgres.new-*")), "killed too late: this shows nothing"
        with Owner(data_dir) as heir:
            assert heir.next_facts()["is_ours"]
            assert not list(data_dir.glob("postgres.new-*"))
            assert heir.end() == 0


def test_four_starts_at_once_on_a_new_directory() -> None:
    with open_directory() as place:
        owners = [Owner(place / "data") for _ in range(4)]
        try:
            facts = [owner.next_facts() for owner in owners]
            assert sorted(fact["is_ours"] for fact in facts) == [False, False, False, True]
            assert len({fact["url"] for fact in facts}) == len({fact["pid"] for fact in facts}) == 1
            assert f"//{ROLE}:" in facts[0]["url"]
            for owner, fact in zip(owners, facts, strict=True):
                if not fact["is_ours"]:
                    assert owner.end() == 0
            assert is_alive(facts[0]["pid"])
        finally:
            for owner in owners:
                owner.__exit__()


def test_a_forked_child_neither_stops_the_server_nor_keeps_the_lock(data_dir: Path) -> None:
    with Owner(data_dir, USERS[0], "fork") as owner:
        said = [owner.next_facts(), owner.next_facts()]
        child = next(fact for fact in said if "forked" in fact)
        pid = next(fact["pid"] for fact in said if "pid" in fact)
        assert not child["is_ours"]
        assert child["accidents_of_its_child"] == 0
        assert is_alive(pid)
        owner.process.kill()
        owner.process.wait()
        assert is_alive(child["forked"])
        with EmbeddedPostgres(data_dir, patience_seconds=5) as postgres:
            assert postgres.is_ours
        owner.process.stdin.close()  # the child reads to its end
        assert eventually(lambda: not is_alive(child["forked"]))


def test_nobody_is_asked_to_end_where_no_cluster_is(data_dir: Path) -> None:
    end_leftovers(data_dir / "no-such-cluster", 0)
    assert is_alive(os.getpid())


if IS_ROOT:

    def test_root_in_a_container_knows_its_server(data_dir: Path) -> None:
        """Who took the own server for dead would start a second one on the same data."""
        orphan = serve_without_a_lock(data_dir)
        with Owner(data_dir, "root", preexec_fn=contained) as first:
            assert orphan.wait(60) == 0
            own = first.next_facts()
            assert (own["is_ours"], own["is_same"]) == (True, True)
            with Owner(data_dir, "root", preexec_fn=contained) as second:
                joined = second.next_facts()
                assert (joined["is_ours"], joined["is_same"], joined["pid"]) == (False, True, own["pid"])
                assert second.end() == 0
            assert is_alive(own["pid"])
            assert first.end() == 0
