"""A process beside this one, for work that would hold the event loop: one, shared, started when it is first needed."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from typing import Any, TypeVar

import setproctitle

from kinfolk.kit import problems

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1


class WorkDied(problems.Unavailable):
    """The process that worked on this ended twice before it was done."""


class Pool:
    """Work goes in turn; a process that dies is replaced, and its work done again once."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)`, all of which can be pickled. Raises WorkDied, and what the function raises.

        After `--user` became one who cannot read where Python lies, no process can begin: a thread must do.
        """
        if not all(os.access(path, os.R_OK) for path in (sys.executable, os.__file__, __file__)):
            return await asyncio.to_thread(function, *arguments)
        for _attempt in range(2):
            executor = self._executor = self._executor or _started()
            try:
                return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
            except BrokenProcessPool:
                if self._executor is executor:  # nobody else has seen it yet
                    self.close()
        raise WorkDied

    def close(self) -> None:
        """End the process once its work is done."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)


@cache
def pool() -> Pool:
    """The one of this process."""
    return Pool()


def _started() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _begin, (os.getpid(),))


def _begin(parent: int) -> None:
    """Ctrl-C goes to everybody, and here means nothing; a parent that is gone, even by kill -9, means the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle.setproctitle("kinfolk reader")
    if sys.platform == "linux":  # pragma: no branch  # the tests run on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # pragma: no cover  # the parent would have to end within these very lines
        os._exit(1)
