"""Become a PostgreSQL program that ends with its parent: `python -I -S postgres_launch.py PARENT UID GID PROGRAM …`.

Run by path, as a script: between fork and exec in a threaded parent (`preexec_fn`) nothing of this is safe.
After setuid Python's own library may lie under a closed directory: nothing is imported from there on.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, uid: int, gid: int, command: list[str]) -> None:  # pragma: no cover  # coverage ends at execv
    os.umask(0o077)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # an ignored signal stays so through exec
        signal.signal(ignored_by_python, signal.SIG_DFL)
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # after setuid, which forgets it; SIGINT is PostgreSQL's fast shutdown
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent ended before PostgreSQL began")
    os.execv(command[0], command)  # noqa: S606  # nothing is to be read by a shell


if __name__ == "__main__":  # pragma: no cover  # as above
    become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
