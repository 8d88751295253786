"""The process beside this one."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psutil
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import REPOSITORY

from kinfolk.kit.pool import Pool, WorkDied, pool
from kinfolk.modules.citizens.register import InvalidCitizens, read_register

TODAY = date(2026, 6, 1)


@pytest.fixture
def aside() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


def end_once(mark: str) -> int:
    """Work that its process does not survive the first time."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def end_always() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_work_is_done_in_one_other_process(aside: Pool) -> None:
    pids = {await aside.run(os.getpid) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    (pid,) = pids
    assert psutil.Process(pid).name().startswith("kinfolk") or "kinfolk" in " ".join(psutil.Process(pid).cmdline())
    aside.close()
    assert not psutil.pid_exists(pid)
    aside.close()


async def test_a_register_and_its_faults_come_back_whole(aside: Pool) -> None:
    import msgspec

    good = msgspec.json.encode({"citizens": [a_citizen(1, relatives=[1, 2]), a_citizen(2, relatives=[1])]})
    here = read_register(good, TODAY)
    there = await aside.run(read_register, good, TODAY)
    assert there.citizens == here.citizens
    assert (list(there.ties), len(there.ties)) == (here.ties, 2)
    with pytest.raises(InvalidCitizens) as refusal:
        await aside.run(read_register, b'{"citizens":[{}]}', TODAY)
    assert refusal.value.facts["error_count"] == 9


async def test_work_whose_process_died_is_done_again(aside: Pool, tmp_path: Path) -> None:
    first = await aside.run(os.getpid)
    assert await aside.run(end_once, str(tmp_path / "mark")) != first


async def test_a_process_killed_at_rest_is_replaced(aside: Pool) -> None:
    first = await aside.run(os.getpid)
    os.kill(first, signal.SIGKILL)
    assert await aside.run(os.getpid) != first


async def test_work_that_always_ends_its_process_is_refused(aside: Pool) -> None:
    with pytest.raises(WorkDied):
        await aside.run(end_always)
    assert await aside.run(os.getpid) != os.getpid()


async def test_all_who_wait_survive_the_death_of_one(aside: Pool, tmp_path: Path) -> None:
    pids = await asyncio.gather(*(aside.run(end_once, str(tmp_path / "mark")) for _ in range(4)))
    assert len(set(pids)) == 1


def sleep_long(mark: str) -> None:
    Path(mark).touch()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


async def test_closing_does_not_wait_for_work(aside: Pool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    sleeping = asyncio.ensure_future(aside.run(sleep_long, str(mark)))
    while not mark.exists():
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    await asyncio.to_thread(aside.close)
    with pytest.raises(WorkDied):
        await sleeping
    assert time.monotonic() - begun < 5
    assert await aside.run(os.getpid) != os.getpid()


async def test_what_is_left_by_one_who_gave_up_is_not_given_to_another(aside: Pool) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(aside.run(time.sleep, 0.5), 0.1)
    assert await aside.run(os.getpid) != os.getpid()


async def test_a_process_that_does_not_hear_is_killed(aside: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinfolk.kit.pool.SECONDS_TO_END", 0.2)
    pid = await aside.run(os.getpid)
    os.kill(pid, signal.SIGSTOP)
    aside.close()
    assert not psutil.pid_exists(pid)


async def test_an_accident_tells_where_it_happened(aside: Pool) -> None:
    with pytest.raises(ZeroDivisionError) as accident:
        await aside.run(divmod, 1, 0)
    assert "function(*arguments)" in accident.value.__notes__[0]


async def test_ctrl_c_is_nothing_to_it(aside: Pool) -> None:
    pid = await aside.run(os.getpid)
    os.kill(pid, signal.SIGINT)
    assert await aside.run(os.getpid) == pid


async def test_where_no_process_can_begin_a_thread_does_the_work(
    aside: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert await aside.run(os.getpid) == os.getpid()
    assert await aside.run(threading.get_ident) != threading.get_ident()


def test_there_is_one_a_process() -> None:
    assert pool() is pool()


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, os, time
        from kinfolk.kit.pool import pool
        if __name__ == "__main__":
            print(asyncio.run(pool().run(os.getpid)), flush=True)
            time.sleep(60)
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(REPOSITORY / "src")}
    )
    with parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
