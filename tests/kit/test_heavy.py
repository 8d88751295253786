"""Work in a process of its own, in a job too."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.example_jobs import NotToday

from kinfolk.kit.heavy import HeavyWorkDied, in_process


def burn(seconds: float) -> int:
    """Holds a processor, and prints."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        print("burning")
    return os.getpid()


def refuse() -> None:
    raise NotToday("Tomorrow.", hour=7)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_work() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "heavy" in "".join(child.cmdline())]


async def test_the_event_loop_goes_on() -> None:
    work = asyncio.ensure_future(in_process(burn, 0.3))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert await work != os.getpid()
    assert turns > 10


async def test_what_it_raises_comes_back_whole() -> None:
    with pytest.raises(NotToday) as refusal:
        await in_process(refuse)
    assert (refusal.value.detail, refusal.value.facts) == ("Tomorrow.", {"hour": 7})
    with pytest.raises(ValueError, match="invalid literal"):
        await in_process(int, "x")


async def test_one_that_dies_says_so() -> None:
    with pytest.raises(HeavyWorkDied):
        await in_process(die)


async def test_to_cancel_the_caller_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await in_process(burn, 60)
    assert at_work() == []


async def test_a_file_where_it_is_begun_is_no_module_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert await in_process(int, "7") == 7


async def test_where_no_process_can_begin_a_thread_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert await in_process(os.getpid) == os.getpid()
