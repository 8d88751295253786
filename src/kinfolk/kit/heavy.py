"""Work that holds a processor, in a process of its own: the event loop goes on, and to cancel the caller ends it."""

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import setproctitle

from kinfolk.kit import problems

T = TypeVar("T")

_places = asyncio.Semaphore(os.cpu_count() or 1)


class HeavyWorkDied(problems.Unavailable):
    """The process that worked on this ended before it was done."""


async def in_process(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, all of which can be pickled, as many at once as there are processors.

    Raises what the function raises, and HeavyWorkDied. It takes some 50 ms to begin: it is for work of seconds.
    After `--user` became one who cannot read where Python lies, no process can begin: a thread must do.
    """
    if not all(os.access(path, os.R_OK) for path in (sys.executable, os.__file__, __file__)):
        return await asyncio.to_thread(function, *arguments)
    async with _places:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file of the folder where somebody happens to stand is no module of ours
            "-c",
            f"from {__name__} import work; work()",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            answer, _ = await process.communicate(pickle.dumps((function, arguments)))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        raise HeavyWorkDied
    is_done, outcome = pickle.loads(answer)  # noqa: S301  # from the process that was started above
    if not is_done:
        raise outcome
    result: T = outcome
    return result


def work() -> None:
    """The life of the process. What the function prints goes where errors go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    setproctitle.setproctitle("kinfolk heavy")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301  # as above
    try:
        outcome = True, function(*arguments)
    except Exception as error:
        outcome = False, error
    with answers:
        pickle.dump(outcome, answers)
