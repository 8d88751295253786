"""A process beside this one, for work that would hold the event loop: one, shared, started when it is first needed.

`concurrent.futures.ProcessPoolExecutor` loses work for ever that is submitted while its process dies (Python 3.11).
"""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

import setproctitle

from kinfolk.kit import problems

T = TypeVar("T")

TITLE = "kinfolk reader"
SECONDS_TO_END = 5.0


class WorkDied(problems.Unavailable):
    """The process that worked on this ended before it was done."""


class Pool:
    """Work goes in turn; a process that dies is replaced, and its work done again once."""

    def __init__(self) -> None:
        self._queue = asyncio.Lock()  # who waits here takes up no thread
        self._turn = threading.Lock()  # outlasts a caller who was cancelled
        self._worker: _Worker | None = None
        self._is_closing = False

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)`, all of which can be pickled. Raises WorkDied, and what the function raises.

        After `--user` became one who cannot read where Python lies, no process can begin: a thread must do.
        """
        if not all(os.access(path, os.R_OK) for path in (sys.executable, os.__file__, __file__)):
            return await asyncio.to_thread(function, *arguments)
        async with self._queue:
            result: T = await asyncio.to_thread(self._hand_over, function, arguments)
        return result

    def _hand_over(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._turn:
            for _attempt in range(2):
                if self._is_closing:
                    break
                try:
                    self._worker = self._worker or _Worker()
                    is_done, outcome = self._worker.do(function, arguments)
                except (EOFError, OSError):
                    self._end_worker()
                    continue
                if is_done:
                    return outcome
                raise outcome
        raise WorkDied

    def close(self) -> None:
        """End the process; whoever waits for its work is told WorkDied."""
        self._is_closing = True
        if self._turn.locked() and self._worker is not None:
            self._worker.kill()
        with self._turn:
            self._end_worker()
        self._is_closing = False

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


@cache
def pool() -> Pool:
    """The one of this process."""
    return Pool()


class _Worker:
    """The process, as the one beside it sees it."""

    def __init__(self) -> None:
        self._line, its_line = Pipe()
        with its_line:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import work; work({its_line.fileno()})"],
                pass_fds=[its_line.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
            )
        self.kill = self._process.kill

    def do(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Whether the function returned, and what it returned or raised. Raises EOFError or OSError if it died."""
        large: list[pickle.PickleBuffer] = []
        handed = [pickle.PickleBuffer(each) if isinstance(each, bytes) else each for each in arguments]
        self._line.send_bytes(pickle.dumps((function, handed), 5, buffer_callback=large.append))
        self._line.send(len(large))
        for each in large:  # as they are: a copy of 63 MB would hold up every thread
            self._line.send_bytes(each)
        outcome: tuple[bool, Any] = self._line.recv()
        return outcome

    def end(self) -> None:
        """It ends when its line does; what cannot hear that is killed."""
        self._line.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()


def work(descriptor: int) -> None:
    """The life of the process: it ends when whoever started it does, even by kill -9; Ctrl-C means nothing to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle.setproctitle(TITLE)
    with Connection(descriptor) as line:
        while True:
            try:
                call = line.recv_bytes()
                large = [line.recv_bytes() for _ in range(line.recv())]
            except (EOFError, OSError):
                return
            line.send(_outcome(call, large))
            del call, large


def _outcome(call: bytes, large: list[bytes]) -> tuple[bool, Any]:
    try:
        function, arguments = pickle.loads(call, buffers=large)  # noqa: S301  # from the process that started this one
        return True, function(*arguments)
    except Exception as error:
        if not isinstance(error, problems.Problem):
            error.add_note(traceback.format_exc())  # which is lost on the way
        return False, error
