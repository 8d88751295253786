"""A piece of work done by a forked child, so that all that it loads ends with it."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from kinfolk.kit.ending import FAILED, OK, Ended

T = TypeVar("T")


def run_aside(work: Callable[[], T]) -> T:
    """What `work` returns, done in a child; this process must have no thread and no event loop.

    What it returns can be pickled. Raises the Ended that it raised.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _be(work, write)
    os.close(write)
    with os.fdopen(read, "rb") as line:
        said = line.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != OK:
        raise Ended(code if code > 0 else FAILED, said.decode() or f"a child ended with {code}")
    result: T = pickle.loads(said)  # noqa: S301  # from the child that was forked above
    return result


def _be(work: Callable[[], Any], write: int) -> NoReturn:
    """The life of the child."""
    code = FAILED
    with os.fdopen(write, "wb") as line:
        try:
            line.write(pickle.dumps(work()))
            code = OK
        except Ended as end:
            line.write(str(end).encode())
            code = end.exit_code
        except Exception:
            line.write(traceback.format_exc().encode())
        finally:
            line.flush()
            os._exit(code)
