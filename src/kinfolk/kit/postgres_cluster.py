"""A PostgreSQL cluster on disk: made whole or not at all, its password, and who still works in it."""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kinfolk.kit.postgres_account import Account, CannotStart, account_of

ROLE = DATABASE = "kinfolk"
PROC = Path("/proc")

# The role owns its database and may make others, and is no superuser: SQL that slips in cannot start programs or read
# files. The superuser `postgres` has no password, so nobody can log in as it.
ROLE_AND_DATABASE = """\
CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{password}';
CREATE DATABASE {database} OWNER {role};
"""
NEW_PASSWORD = "ALTER ROLE {role} PASSWORD '{password}';\n"  # noqa: S105  # a statement, not a password

WHO_MAY_CONNECT = """\
local all all              scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
"""

TUNING = """
# Kinfolk's choices for a small machine; yours to change. The rest is given on the command line and cannot be.
shared_buffers = 128MB                  # a register of a million citizens is read from it; taken only as it fills
effective_cache_size = 1GB              # the default of 4GB is more than such a machine has
max_connections = 100
wal_compression = on                    # a load right after a checkpoint writes every page whole
checkpoint_timeout = 15min              # fewer of those; recovery stays within max_wal_size
random_page_cost = 1.1                  # no turning disks
log_error_verbosity = terse             # DETAIL quotes rows, and rows are people
log_min_error_statement = panic         # so do statements
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
"""


def pinned_major(cluster: Path) -> int | None:
    """The major version the data were made by; None where there are no data yet."""
    try:
        return int((cluster / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        if cluster.exists() and any(cluster.iterdir()):
            raise CannotStart(
                f"{cluster} is there and holds no PostgreSQL data, so it is left alone. Move it away, or choose"
                " another --data-dir."
            ) from None
        return None


def make_cluster(cluster: Path, folder: Path, major: int, account: Account, password: str) -> None:
    """Make the cluster with its role and database under a temporary name, then rename it: there is never half a one."""
    new = Path(tempfile.mkdtemp(prefix=f"{cluster.name}.new-", dir=cluster.parent))
    os.chown(new, account.uid, account.gid)
    # nobody connects before WHO_MAY_CONNECT stands
    initdb: list[str | Path] = [folder / "initdb", "-D", new, "-U", "postgres", "--auth=reject", "--data-checksums"]
    locale = ["--encoding=UTF8", "--locale=C.UTF-8"]
    if major >= 17:  # knows C.UTF-8 itself, whatever the machine's library does
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    account.run([*initdb, *locale, "--no-sync", "--no-instructions"])
    # written by the server's user: root does not follow names in a directory that another user owns
    account.run(["tee", "-a", new / "postgresql.conf"], TUNING)
    account.run(["tee", new / "pg_hba.conf"], WHO_MAY_CONNECT)
    tell_alone(new, folder, account, ROLE_AND_DATABASE.format(role=ROLE, database=DATABASE, password=password))
    account.run([folder / "initdb", "-D", new, "--sync-only"])
    new.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def give_password(cluster: Path, folder: Path, account: Account, password: str) -> None:
    """Set the role's password while no server runs."""
    tell_alone(cluster, folder, account, NEW_PASSWORD.format(role=ROLE, password=password))


def tell_alone(cluster: Path, folder: Path, account: Account, statements: str) -> None:
    """Run statements, one a line, without a server (PostgreSQL's single-user mode); the first error stops all."""
    account.run([folder / "postgres", "--single", "-D", cluster, "-c", "exit_on_error=on", "postgres"], statements)


def read_password(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def write_password(path: Path) -> str:
    """Make a new password and keep it, readable by this user only."""
    password = secrets.token_urlsafe(24)
    write_whole(path, password + "\n")
    return password


def write_whole(path: Path, text: str) -> None:
    """Replace a file at one stroke, readable by this user only."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    Path(name).rename(path)


def works_in(cluster: Path, pid: int) -> bool:
    """Whether the process is a PostgreSQL program at work in the cluster: a number alone may be anybody's by now."""
    if not PROC.is_dir():  # pragma: no cover  # macOS, where only the number is left to go by
        with suppress(OSError):
            os.kill(pid, 0)
            return True
        return False
    process = PROC / str(pid)
    try:
        return (process / "comm").read_text() == "postgres\n" and (process / "cwd").samefile(cluster)
    except PermissionError:  # also for root in a container (no CAP_SYS_PTRACE), who may ask as whose process it is
        return os.geteuid() == 0 and _owner_says(cluster, process)
    except OSError:
        return False


def _owner_says(cluster: Path, process: Path) -> bool:
    with suppress(OSError):
        owner = process.stat()
        return account_of(owner.st_uid, owner.st_gid).sees_one(process / "cwd", cluster)
    return False  # pragma: no cover  # it ended this moment


def end_leftovers(cluster: Path, patience_seconds: float) -> None:
    """End what a killed owner left: its server, a killed server's backends, a stale pid file, half a cluster.

    Only the holder of the lock may call this. Raises CannotStart where a process stays.
    """
    for begun in cluster.parent.glob(f"{cluster.name}.new-*"):
        shutil.rmtree(begun, ignore_errors=True)
    pid_file = cluster / "postmaster.pid"
    if not PROC.is_dir():  # pragma: no cover  # macOS: PostgreSQL's own check must do
        return
    deadline = time.monotonic() + patience_seconds
    asked: set[int] = set()
    while left := list(_all_at_work(cluster)):
        if time.monotonic() > deadline:
            raise CannotStart(
                f"An earlier server still works in {cluster} and does not end. See what it does, then end it:\n"
                f"  kill -QUIT {' '.join(map(str, left))}"
            )
        # its postmaster ends them; without one they are asked themselves, as they look up only between statements
        postmaster = read_pid(pid_file)
        for pid in {postmaster} if postmaster in left else left:
            if pid not in asked:
                asked.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if pid == postmaster else signal.SIGTERM)
        time.sleep(0.02)
    pid_file.unlink(missing_ok=True)


def read_pid(pid_file: Path) -> int:
    """The postmaster's pid by its file; 0 where that cannot be read."""
    try:
        return int(pid_file.read_text().partition("\n")[0])
    except (OSError, ValueError):
        return 0


def _all_at_work(cluster: Path) -> Iterator[int]:
    for process in PROC.glob("[0-9]*"):
        if works_in(cluster, int(process.name)):
            yield int(process.name)
