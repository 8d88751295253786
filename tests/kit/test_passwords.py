"""Passwords, and the process beside that hashes them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest
from tests.postgres_places import eventually

from kinfolk.kit import passwords
from kinfolk.kit.passwords import (
    NICENESS,
    NO_PASSWORD,
    REST_AFTER_WRONG_SECONDS,
    REST_SECONDS,
    Call,
    CommonPassword,
    Outcome,
    Passwords,
    TooManyPasswords,
    done,
)
from kinfolk.kit.pool import new_line

GOOD = "correct horse battery staple"
# Its rests are told instead of taken.
LIFE = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
from kinfolk.kit import passwords
passwords.IDLE_SECONDS = float(sys.argv[2])
passwords.time.sleep = lambda seconds: print(seconds, flush=True)
passwords.hasher(socket.socket(fileno=int(sys.argv[1])))(print)
"""


class Beside:
    """Passwords, and as many processes for them as are begun."""

    def __init__(self) -> None:
        self.asked, self.heard = new_line()
        self.passwords = Passwords(self.asked)
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self, idle_seconds: float = 60) -> subprocess.Popen[bytes]:
        number = self.heard.fileno()
        words = [sys.executable, "-c", LIFE, str(number), str(idle_seconds)]
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.processes.append(subprocess.Popen(words, pass_fds=[number], env=os.environ | path, stdout=subprocess.PIPE))
        return self.processes[-1]

    def end(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()  # so that it can write down what was measured
            process.communicate(timeout=30)
        self.asked.close()
        self.heard.close()


@pytest.fixture
def beside() -> Iterator[Beside]:
    beside = Beside()
    yield beside
    beside.end()


async def said(hashing: Passwords) -> None:
    kept = await hashing.hashed(GOOD)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hashing.hashed(GOOD) != kept
    assert (await hashing.compared(GOOD, kept)).is_right
    assert (await hashing.compared(GOOD, kept)).hash is None
    for word, there in ((GOOD + " ", kept), ("", kept), (GOOD, None), (GOOD, "no hash at all"), ("", NO_PASSWORD)):
        outcome = await hashing.compared(word, there)
        assert (outcome.is_right, outcome.hash) == (False, None)
    for common in ("password1", "PASSWORD1", "qwertyuiop"):
        with pytest.raises(CommonPassword):
            await hashing.hashed(common)


async def test_here() -> None:
    await said(Passwords())


async def test_beside(beside: Beside) -> None:
    process = beside.begin()
    await said(beside.passwords)
    assert psutil.Process(process.pid).nice() == min(19, os.nice(0) + NICENESS)
    threads = [thread.id for thread in psutil.Process(process.pid).threads()]
    assert sorted(os.sched_getscheduler(each) for each in threads) == [os.SCHED_OTHER, os.SCHED_IDLE]


async def test_it_rests_longer_after_a_wrong_password(beside: Beside) -> None:
    process = beside.begin()
    kept = await beside.passwords.hashed(GOOD)
    for word in (GOOD, "a guess", GOOD):
        await beside.passwords.compared(word, kept)
    assert process.stdout is not None
    rests = [float(process.stdout.readline()) for _ in range(4)]
    assert rests == [REST_SECONDS, REST_SECONDS, REST_AFTER_WRONG_SECONDS, REST_SECONDS]
    assert REST_AFTER_WRONG_SECONDS > REST_SECONDS


async def test_where_the_polite_thread_has_no_time_it_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that does not end stands for one that is given no processor."""
    has_time, done_by = threading.Event(), []

    def slow(call: Call) -> Outcome:
        done_by.append(threading.current_thread())
        if threading.current_thread() is not threading.main_thread():
            has_time.wait(60)
        return Outcome(call.password == GOOD, None)

    monkeypatch.setattr(passwords, "done", slow)
    monkeypatch.setattr(passwords, "POLITE_SECONDS", 0.01)
    polite = passwords._Polite()
    assert [polite.done(Call(word, "kept")).is_right for word in (GOOD, "wrong", GOOD)] == [True, False, True]
    assert [thread is threading.main_thread() for thread in done_by] == [False, True, True, True]
    has_time.set()
    assert eventually(lambda: polite._under_way is not None and polite._under_way.done())
    monkeypatch.setattr(passwords, "POLITE_SECONDS", 60)
    assert not polite.done(Call("wrong", "kept")).is_right
    assert done_by[4:] == done_by[:1]
    assert polite.done(Call(GOOD, None)).is_right
    assert done_by[-1] is threading.main_thread()


def test_a_letter_may_be_written_in_two_ways() -> None:
    kept = done(Call("caf\u00e9 au lait", None)).hash
    assert done(Call("cafe\u0301 au lait", kept)).is_right
    assert not done(Call("cafe au lait", kept)).is_right


async def test_the_longest_password_goes_through_and_a_dot_of_it_counts(beside: Beside) -> None:
    beside.begin()
    longest = "\U00010437\n" * 512
    kept = await beside.passwords.hashed(longest)
    assert (await beside.passwords.compared(longest, kept)).is_right
    assert not (await beside.passwords.compared(longest[:-1], kept)).is_right


async def test_few_may_wait(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WAITING", 3)
    waiting = [asyncio.ensure_future(beside.passwords.compared(GOOD, None)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyPasswords):
        await beside.passwords.compared(GOOD, None)
    beside.begin()
    assert [outcome.is_right for outcome in await asyncio.gather(*waiting)] == [False] * 3
    assert not (await beside.passwords.compared(GOOD, None)).is_right


async def test_where_the_line_is_full_or_closed_one_is_told(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "is_sent", lambda *_: False)
    with pytest.raises(TooManyPasswords):
        await beside.passwords.compared(GOOD, None)


async def test_who_waits_when_the_process_dies_is_told(beside: Beside) -> None:
    waiting = asyncio.ensure_future(beside.passwords.compared(GOOD, None))
    await asyncio.sleep(0)
    _call, (theirs,), _, _ = socket.recv_fds(beside.heard, 65_536, 1)  # as a process does that then dies
    os.close(theirs)
    with pytest.raises(TooManyPasswords):
        await waiting
    beside.begin()
    assert not (await beside.passwords.compared(GOOD, None)).is_right


async def test_who_waits_too_long_is_told(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "ANSWER_SECONDS", 0.05)
    with pytest.raises(TooManyPasswords):
        await beside.passwords.compared(GOOD, None)


def test_it_ends_when_nobody_asks(beside: Beside) -> None:
    process = beside.begin(idle_seconds=0.2)
    assert eventually(lambda: process.poll() is not None)
    assert process.returncode == 0
