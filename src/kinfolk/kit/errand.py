"""A piece of work done by a forked child, so that all that it loads ends with it."""

import os
import traceback
from collections.abc import Callable
from typing import NoReturn

from kinfolk.kit.ending import FAILED, OK, Ended


def run_aside(work: Callable[[], object]) -> None:
    """Do it in a child; this process must have no thread and no event loop. Raises the Ended that it raised."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _be(work, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as line:
        words = line.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != OK:
        raise Ended(code if code > 0 else FAILED, words or f"a child ended with {code}")


def _be(work: Callable[[], object], write: int) -> NoReturn:
    """The life of the child."""
    code = FAILED
    try:
        work()
        code = OK
    except Ended as end:
        os.write(write, str(end).encode())
        code = end.exit_code
    except Exception:
        os.write(write, traceback.format_exc().encode())
    finally:
        os._exit(code)
