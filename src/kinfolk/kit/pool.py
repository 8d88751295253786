"""A process beside the workers, for work that would hold their event loops: forked when there is some, and for all.

A call is a datagram with two descriptors: the document, and a line for the answer. It waits in the socket until a
process takes it. So a call that nobody took is never lost, and the death of the process that did is noticed at once.
"""

import asyncio
import os
import pickle
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO, TypeVar

import uvloop

from kinfolk.kit import log, problems
from kinfolk.kit.db import Database

T = TypeVar("T")
Read = Callable[[mmap], tuple[Any, ...]]
"""Turns a document into what an operation takes after its connection; can be pickled."""
Between = Callable[..., Awaitable[None]]

IDLE_SECONDS = 5.0  # to begin takes some 30 ms, and what ends gives its memory back
ANSWER_SECONDS = 30.0
PAUSE_SECONDS = 0.05
NICENESS = 10  # whoever asks a worker does not wait for whoever sends 63 MB
LONGEST_CALL_BYTES = 4_096
COMMITTING = b"c"  # which no pickle begins with


class WorkDied(problems.Unavailable):
    """The process that worked on this ended before it was done; nothing was changed."""


class OutcomeUnknown(problems.Unavailable):
    """The process that worked on this ended just when it was done; whether it is done is not known."""


async def nothing(*_of_it: object) -> None:
    """For what has nothing to say between reading and working."""


class Pool:
    """The process, as the workers see it."""

    def __init__(self, db: Database, line: socket.socket | None = None) -> None:
        """`line` is the first of `new_line`. Without one, as in tests, work is done where it is asked for."""
        self._db = db
        self._line = line

    async def run(
        self,
        read: Read,
        operation: Callable[..., Awaitable[T]],
        document: BinaryIO,
        *,
        may_repeat: bool,
        between: Between = nothing,
    ) -> T:
        """`operation(conn, *read(document))` in a transaction; `document` is a file that is not empty.

        `between(conn, *read(document))` comes before, outside of the transaction, for what is to be seen at once.

        Raises what these raise, and DatabaseAway. Where the process dies before it commits, all is done once more and
        WorkDied raised if it dies again; where it may have committed, that is only so if it `may_repeat`, and else
        OutcomeUnknown is raised.
        """
        if self._line is None:
            return await _do(self._db, read, operation, document, between=between)
        call = pickle.dumps((read, operation, between, log.origin()))
        for _attempt in range(2):
            answer = await self._ask(call, document)
            try:
                is_done, outcome, facts = pickle.loads(answer.removeprefix(COMMITTING))  # noqa: S301  # our own process
            except (EOFError, pickle.UnpicklingError):
                if answer and not may_repeat:
                    raise OutcomeUnknown from None
                continue
            log.note(**facts)
            if is_done:
                result: T = outcome
                return result
            raise outcome
        raise WorkDied

    async def _ask(self, call: bytes, document: BinaryIO) -> bytes:
        assert self._line is not None
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                while not is_sent(self._line, call, document.fileno(), theirs.fileno()):  # noqa: ASYNC110  # no news
                    await asyncio.sleep(PAUSE_SECONDS)
            loop = asyncio.get_running_loop()
            pieces = []
            with suppress(ConnectionResetError):
                while piece := await loop.sock_recv(ours, 65_536):
                    pieces.append(piece)
        return b"".join(pieces)


def new_line() -> tuple[socket.socket, socket.socket]:
    """Where workers put calls, and where a process takes them."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setblocking(False)
    return ends


def is_sent(line: socket.socket, call: bytes, *descriptors: int) -> bool:
    """False where ten wait already, or what the system sets. Raises WorkDied where nobody will ever take it."""
    try:
        socket.send_fds(line, [call], descriptors)
    except BlockingIOError:
        return False
    except ConnectionError:
        raise WorkDied from None
    return True


def reader(line: socket.socket, url: str) -> Callable[[Callable[[], None]], None]:
    """The life of the process, which the supervisor forks when a call comes in at `line`: it ends when none is left.

    It has a connection of its own, as long as it lives.
    """

    def run(_on_ready: Callable[[], None]) -> None:
        os.nice(NICENESS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(line, Database(url, size=1)))

    return run


async def _serve(line: socket.socket, db: Database) -> None:
    async with db:
        while await _has_call(line):
            with suppress(BlockingIOError):
                call, descriptors, _, _ = socket.recv_fds(line, LONGEST_CALL_BYTES, 2)
                with os.fdopen(descriptors[0], "rb") as document, socket.socket(fileno=descriptors[1]) as caller:
                    await _answer(db, call, document, caller)


async def _has_call(line: socket.socket) -> bool:
    """Wait for one; False when none comes."""
    loop = asyncio.get_running_loop()
    has_come = asyncio.Event()
    loop.add_reader(line, has_come.set)
    try:
        await asyncio.wait_for(has_come.wait(), IDLE_SECONDS)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(line)
    return True


async def _answer(db: Database, call: bytes, document: BinaryIO, caller: socket.socket) -> None:
    """Do what a caller wants; one who is gone is not served, and before the commit that ends the transaction."""
    if _is_gone(caller):
        return
    caller.settimeout(ANSWER_SECONDS)
    with log.facts() as facts:
        is_done = True
        try:
            read, operation, between, origin = pickle.loads(call)  # noqa: S301  # from a worker
            facts.update(origin.facts())
            outcome: Any = await _do(
                db, read, operation, document, between=between, before_commit=lambda: caller.sendall(COMMITTING)
            )
        except Exception as error:
            if not isinstance(error, problems.Problem):
                error.add_note(traceback.format_exc())  # which is lost on the way
            is_done, outcome = False, error
    with suppress(OSError):
        caller.sendall(pickle.dumps((is_done, outcome, facts)))


async def _do(
    db: Database,
    read: Read,
    operation: Callable[..., Awaitable[T]],
    document: BinaryIO,
    *,
    between: Between,
    before_commit: Callable[[], None] = lambda: None,
) -> T:
    with mmap(document.fileno(), 0, access=ACCESS_READ) as mapped:
        found = read(mapped)
    if between is not nothing:
        async with db.connection() as conn:
            await between(conn, *found)
    async with db.transaction() as conn:
        result = await operation(conn, *found)
        before_commit()
    return result


def _is_gone(caller: socket.socket) -> bool:
    try:
        return not caller.recv(1, socket.MSG_DONTWAIT)  # it never says anything
    except BlockingIOError:
        return False
