"""As which user of the machine PostgreSQL's programs run, and what that user can reach."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kinfolk.kit import postgres_launch
from kinfolk.kit.ending import Missing

STAND_INS_FOR_ROOT = ("kinfolk", "postgres", "nobody")
FIRST_CLOSED = 'for each in "$@"; do test -x "$each" || { printf %s "$each"; exit; }; done'


class CannotStart(Missing):  # it reads as what it says
    """The embedded PostgreSQL cannot run here; the message tells the operator what, why and what mends it."""


@dataclass(frozen=True)
class Account:
    """A user of the machine. Whatever it runs is a session of its own and ends with the thread that began it."""

    name: str
    uid: int
    gid: int

    def begin(self, command: Sequence[str | Path], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start a program that lives on; standard error goes where the output goes."""
        return subprocess.Popen(
            self._launched(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )

    def run(self, command: Sequence[str | Path], given: str = "") -> str:
        """Run a program to its end and return what it printed; a failure is a CannotStart that quotes it."""
        done = self._run(command, given)
        if done.returncode:
            raise CannotStart(f"{Path(command[0]).name} failed as user {self.name}:\n{last_words(done.stdout)}")
        return done.stdout

    def can_run(self, program: Path) -> bool:
        return self._run([program, "--version"]).returncode == 0

    def sees_one(self, path: Path, other: Path) -> bool:
        """Whether this user can see both, and they are the same."""
        return self._run(["test", path, "-ef", other]).returncode == 0

    def first_closed(self, directory: Path) -> Path | None:
        """The uppermost directory on the way to `directory`, itself included, that this user cannot pass."""
        way = [*reversed(directory.parents), directory]
        closed = self.run(["sh", "-c", FIRST_CLOSED, "sh", *way])
        return Path(closed) if closed else None

    def _run(self, command: Sequence[str | Path], given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._launched(command),
            check=False,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )

    def _launched(self, command: Sequence[str | Path]) -> list[str]:
        script = str(Path(postgres_launch.__file__))
        identity = (str(os.getpid()), str(self.uid), str(self.gid))
        program = shutil.which(command[0]) or str(command[0])
        return [sys.executable, "-I", "-S", script, *identity, program, *map(str, command[1:])]


def server_account(cluster: Path, user_id: int, stand_ins: Sequence[str] = STAND_INS_FOR_ROOT) -> Account:
    """The account for a process of `user_id`: its own; for root the cluster's owner, else the first stand-in there is.

    PostgreSQL refuses to run as root. Raises CannotStart where root has no stand-in.
    """
    if user_id != 0:
        return account_of(user_id, os.getegid())
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return account_of(owner.st_uid, owner.st_gid)
    for name in stand_ins:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, user.pw_uid, user.pw_gid)
    raise CannotStart(
        f"PostgreSQL does not run as root, and none of the users {', '.join(stand_ins)} exists. Make one:\n"
        "  useradd --system kinfolk"
    )


def last_words(said: str, most: int = 1_500) -> str:
    return said.strip()[-most:] or "(it said nothing)"


def account_of(user_id: int, group_id: int) -> Account:
    """The account of a user who need not have a name."""
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:  # a container may run as a number without a name
        name = str(user_id)
    return Account(name, user_id, group_id)


def _environment() -> dict[str, str]:
    """Ours without what bends PostgreSQL's programs; messages in English, as `embedded_postgres` reads them.

    A PostgreSQL that knows systemd would say there that it is ready, in our name.
    """
    bending = ("PG", "LC_", "LANG", "KINFOLK_", "NOTIFY_SOCKET")
    return {name: value for name, value in os.environ.items() if not name.startswith(bending)} | {"LC_ALL": "C"}
