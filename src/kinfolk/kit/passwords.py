"""Passwords: argon2id, in a process beside that has time when nobody else needs the processor.

One hash takes 19 MiB and some 20 ms of a processor; they are made one after another, with a rest between, and few may
wait.
"""

import asyncio
import os
import select
import socket
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec

from kinfolk.kit import problems
from kinfolk.kit.pool import is_sent

PASSES, KIBIBYTES, LANES = 2, 19_456, 1  # OWASP's Password Storage Cheat Sheet, argon2id
MOST_WAITING = 16
IDLE_SECONDS = 5.0
ANSWER_SECONDS = 30.0
NICENESS = 19
POLITE_SECONDS = 0.25
REST_SECONDS = 0.02
REST_AFTER_WRONG_SECONDS = 0.1  # each in a flood has other work done, too: of a worker and, durably, the database
LONGEST_CALL_BYTES = 16_384
# What a name that nobody has is compared with, at the cost of a real one.
NO_PASSWORD = f"$argon2id$v=19$m={KIBIBYTES},t={PASSES},p={LANES}${'A' * 22}${'A' * 43}"


class TooManyPasswords(problems.Unavailable):
    """Too many passwords wait to be checked just now."""


class CommonPassword(problems.InvalidDocument):
    """The password is one that everybody tries first."""

    def __init__(self) -> None:
        super().__init__([problems.BadPlace("/password", "is one of the most common passwords: take another")])


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A password to be compared with a hash, or, without one, to be hashed."""

    password: str
    kept: str | None


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """Whether it is right, or may be taken; and what to keep from now on, where that is something new."""

    is_right: bool
    hash: str | None


class Passwords:
    """Hashing, as the workers see it."""

    def __init__(self, line: socket.socket | None = None) -> None:
        """`line` is the first of `pool.new_line`. Without one, as in tests and commands, it is done in a thread."""
        self._line = line
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def hashed(self, password: str) -> str:
        """What to keep of a new password. Raises CommonPassword and TooManyPasswords."""
        outcome = await self._ask(Call(password, None))
        if outcome.hash is None:
            raise CommonPassword
        return outcome.hash

    async def compared(self, password: str, kept: str | None) -> Outcome:
        """Whether this is the password; without anything kept it takes the same time and is not.

        Where the hash is older than our parameters, there is a new one. Raises TooManyPasswords.
        """
        outcome = await self._ask(Call(password, kept or NO_PASSWORD))
        return outcome if kept else Outcome(False, None)

    def require_room(self) -> None:
        """Raises TooManyPasswords where no more may wait, for those who have work to do before they ask."""
        if self._waiting >= MOST_WAITING:
            raise TooManyPasswords(retry_after_seconds=2)

    async def _ask(self, call: Call) -> Outcome:
        self.require_room()
        self._waiting += 1
        try:
            if self._line is None:
                async with self._turn:
                    return await asyncio.to_thread(done, call)
            return await self._asked_beside(self._line, call)
        finally:
            self._waiting -= 1

    async def _asked_beside(self, line: socket.socket, call: Call) -> Outcome:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                if not is_sent(line, msgspec.json.encode(call), theirs.fileno()):
                    raise TooManyPasswords(retry_after_seconds=2)
            answer = b""
            with suppress(ConnectionResetError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await asyncio.get_running_loop().sock_recv(ours, LONGEST_CALL_BYTES)
        if not answer:  # its process died, or has far too much to do
            raise TooManyPasswords
        return msgspec.json.decode(answer, type=Outcome)


def done(call: Call) -> Outcome:
    """What is asked, here and now."""
    from argon2 import PasswordHasher  # a worker that never needs it does not load it
    from argon2.exceptions import InvalidHashError, VerificationError

    hasher = PasswordHasher(time_cost=PASSES, memory_cost=KIBIBYTES, parallelism=LANES)
    password = unicodedata.normalize("NFC", call.password)  # as one types it here or there (RFC 8265, 4.2.2)
    if call.kept is None:
        return Outcome(False, None) if password.lower() in _common() else Outcome(True, hasher.hash(password))
    try:
        hasher.verify(call.kept, password)
    except (InvalidHashError, VerificationError):
        return Outcome(False, None)
    return Outcome(True, hasher.hash(password) if hasher.check_needs_rehash(call.kept) else None)


@cache
def _common() -> frozenset[str]:
    """The 30,000 most common passwords that leaked anywhere."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    words: Any = FREQUENCY_LISTS["passwords"]
    return frozenset(words)


def hasher(line: socket.socket) -> Callable[[Callable[[], None]], None]:
    """The life of the process, which the supervisor forks when a call comes in at `line`: it ends when none is left."""

    def run(_on_ready: Callable[[], None]) -> None:
        os.nice(NICENESS)
        polite = _Polite()
        while select.select([line], [], [], IDLE_SECONDS)[0]:
            with suppress(BlockingIOError):
                call, descriptors, _, _ = socket.recv_fds(line, LONGEST_CALL_BYTES, 1)
                with socket.socket(fileno=descriptors[0]) as caller:
                    outcome = polite.done(msgspec.json.decode(call, type=Call))
                    with suppress(OSError):  # the caller is gone
                        caller.sendall(msgspec.json.encode(outcome))
                time.sleep(REST_SECONDS if outcome.is_right else REST_AFTER_WRONG_SECONDS)

    return run


class _Polite:
    """A thread that gives up its processor to whoever wants it (SCHED_IDLE), and a way out where everybody does.

    Who is only nice keeps a processor for a slice of time (Linux 6.6 and newer): others waited a millisecond for it.
    """

    def __init__(self) -> None:
        import argon2  # noqa: F401  # the other thread would keep all waiting for what it loads

        self._thread = ThreadPoolExecutor(1, initializer=_give_way)
        self._under_way: Future[Outcome] | None = None

    def done(self, call: Call) -> Outcome:
        """As `done`. It is done here where the other has had no time for so long, or none yet for one before.

        So is a new password, which no stranger can send.
        """
        if call.kept is not None and (self._under_way is None or self._under_way.done()):
            self._under_way = self._thread.submit(done, call)
            with suppress(TimeoutError):
                return self._under_way.result(POLITE_SECONDS)
        return done(call)


def _give_way() -> None:
    with suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
