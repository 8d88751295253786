"""A process with an embedded PostgreSQL: `postgres_owner.py DATA_DIR [fork]`, standard library only.

Prints one JSON line when the server runs (or `{"refused": …}`) and stops it when standard input ends; `is_same` says
whether who asks once more is told of the same server. With `fork`, a
forked child comes first that calls `stop` itself, prints a line of its own and lives as long as its parent would.
"""

import json
import os
import sys
from pathlib import Path

from kinfolk.kit.embedded_postgres import CannotStart, EmbeddedPostgres


def say(**facts: object) -> None:
    """One write, so that the lines of two processes do not mix."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def _accidents_of_a_fork() -> int:
    accidents: list[object] = []
    sys.unraisablehook = accidents.append
    if (pid := os.fork()) == 0:
        os._exit(len(accidents))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    try:
        url = postgres.start()
    except CannotStart as refusal:
        say(refused=str(refusal))
        return
    if "fork" in sys.argv and os.fork() == 0:
        was_ours, accidents = postgres.is_ours, _accidents_of_a_fork()
        postgres.stop()
        say(forked=os.getpid(), is_ours=was_ours, accidents_of_its_child=accidents)
        sys.stdin.read()
        os._exit(0)
    is_same = postgres.start() == url
    say(url=url, pid=postgres.pid, is_ours=postgres.is_ours, is_same=is_same, uid=os.geteuid())
    sys.stdin.read()
    postgres.stop()


if __name__ == "__main__":
    main()
