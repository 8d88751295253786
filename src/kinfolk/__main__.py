"""`kinfolk`, also as `python -m kinfolk`. Loading the rest takes half a second, in which Ctrl-C ends in a word, too."""

import os
import signal
from types import ModuleType
from typing import NoReturn

from kinfolk.kit.ending import INTERRUPTED, tell


def main() -> None:
    _command_line().main()


def main_db() -> None:
    """`kinfolk-db`."""
    _command_line().main_db()


def _command_line() -> ModuleType:
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # `nohup kinfolk &` does not hear it
    if is_heard:
        signal.signal(signal.SIGINT, _interrupted)
    from kinfolk import cli

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli


def _interrupted(_number: int, _frame: object) -> NoReturn:
    """At once: what is being imported might take an exception for one of its own."""
    tell("interrupted")
    os._exit(INTERRUPTED)


if __name__ == "__main__":  # a process that is spawned imports this file
    main()
