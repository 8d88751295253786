"""How a command ends: its exit code, and plain words on standard error where it cannot go on."""

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

OK, FAILED, WRONG_USAGE, NOT_THERE, INTERRUPTED = 0, 1, 2, 3, 130

P = ParamSpec("P")


class Ended(Exception):  # noqa: N818  # how a command ends, not an error of ours
    """A command cannot go on: the words for the person who ran it, and the exit code."""

    def __init__(self, exit_code: int, words: str) -> None:
        super().__init__(words)
        self.exit_code = exit_code


class WrongSetting(Ended):
    """A setting that cannot be; the words name it."""

    def __init__(self, words: str) -> None:
        super().__init__(WRONG_USAGE, words)


class Missing(Ended):
    """Something that Kinfolk needs is not there; the words say what and how to mend it."""

    def __init__(self, words: str) -> None:
        super().__init__(NOT_THERE, words)


def tell(words: str) -> None:
    """Write to standard error, where progress and refusals go."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201  # a command speaks to a person


def _let_go_of_output() -> None:
    """The interpreter flushes standard output once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ends_plainly(command: Callable[P, int]) -> Callable[P, int]:
    """Let a command end with words on standard error and an exit code, never with a traceback.

    A reader who closes the pipe has seen enough: that is 0. A full disk is 1, Ctrl-C is 130.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            code = command(*args, **kwargs)
            print(end="", flush=True)  # noqa: T201  # at the interpreter's end nobody could catch what is wrong
            return code
        except Ended as end:
            tell(str(end))
            return end.exit_code
        except KeyboardInterrupt:
            tell("interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            _let_go_of_output()
            return OK
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _let_go_of_output()
            tell(f"cannot write: {error.strerror}")
            return FAILED

    return run
