"""Directories, copies of a ready cluster and other processes for the tests of the embedded PostgreSQL."""

import atexit
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.migrate import upgrade
from kinfolk.kit.postgres_account import Account
from kinfolk.kit.postgres_binaries import WHEEL, choose_binaries
from kinfolk.kit.postgres_cluster import works_in

PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
IS_ROOT = os.geteuid() == 0
ORDINARY_ID = 65534 if IS_ROOT else os.geteuid()
USERS = ["root", "ordinary"] if IS_ROOT else ["ordinary"]
REPOSITORY = Path(__file__).resolve().parent.parent
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("1[5-8]/bin"))
SYSTEM = INSTALLED[0] if INSTALLED else Path("/usr/lib/postgresql/15/bin")
"""The programs of the machine's own PostgreSQL, such as Debian's 15."""
NAMED = Path(os.environ["TEST_PG_BIN"]) if "TEST_PG_BIN" in os.environ else None
"""A folder of programs to test with in place of those that Kinfolk brings."""
if NAMED:
    os.environ["PATH"] = f"{NAMED}:{os.environ['PATH']}"  # where Kinfolk finds them for the data that they have made


@contextmanager
def open_directory(user: str = USERS[0]) -> Iterator[Path]:
    """A directory that every user can pass (pytest's `tmp_path` is closed) and that belongs to `user`."""
    directory = Path(tempfile.mkdtemp(prefix="kin"))
    directory.chmod(0o755)
    if user == "ordinary":
        os.chown(directory, ORDINARY_ID, -1)
    try:
        yield directory
    finally:  # a server whose owner was killed may still be writing
        assert eventually(lambda: shutil.rmtree(directory, ignore_errors=True) or not directory.exists())


@cache
def ready_data_dir(binaries: Path | None = None, *, is_migrated: bool = False) -> Path:
    """A data directory whose server has run once and ended; copy it, do not start it."""
    place = Path(tempfile.mkdtemp(prefix="kin"))
    atexit.register(shutil.rmtree, place)
    place.chmod(0o755)
    with EmbeddedPostgres(place / "data", binaries=binaries or NAMED) as postgres, ThreadPoolExecutor(1) as aside:
        if is_migrated:
            aside.submit(upgrade, postgres.start()).result()  # Alembic runs a loop of its own
    return place / "data"


def copy_of_ready(
    directory: Path, user: str = USERS[0], binaries: Path | None = None, *, is_migrated: bool = False
) -> Path:
    """A data directory that has been used before, with Kinfolk's tables or none."""
    data_dir = directory / "data"
    subprocess.run(["cp", "-a", ready_data_dir(binaries, is_migrated=is_migrated), data_dir], check=True)
    if user == "ordinary" and IS_ROOT:
        subprocess.run(["chown", "-R", f"{ORDINARY_ID}", data_dir], check=True)
    return data_dir


def fake_programs(folder: Path, last_word: str, version: str = "") -> Path:
    """Programs that say a version, that of ready data if none is given, and fail to serve."""
    version = version or choose_binaries(None, NAMED).version
    folder.mkdir(mode=0o755)
    (folder / "initdb").touch()
    serve = f'case "$1" in --version) echo "postgres (PostgreSQL) {version}";; *) echo "{last_word}"; exit 1;; esac'
    (folder / "postgres").write_text(f"#!/bin/sh\n{serve}\n")
    (folder / "postgres").chmod(0o755)
    return folder


class Owner:
    """Another process with an embedded PostgreSQL, see `postgres_owner.py`; `facts` is what it printed."""

    def __init__(self, data_dir: Path, user: str = USERS[0], *words: str, **how: Any) -> None:
        is_other = user == "ordinary" and IS_ROOT
        user_id = ORDINARY_ID if is_other else 0
        environment = os.environ | {"PYTHONPATH": _packages_for(user_id)}
        if is_other:  # may not write the coverage of this process
            environment = {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}
        self.process = subprocess.Popen(
            [_python_for(user_id), "-c", (REPOSITORY / "tests/postgres_owner.py").read_text(), data_dir, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd="/",
            **({"user": ORDINARY_ID, "group": ORDINARY_ID, "extra_groups": []} if is_other else {}),
            **how,
        )

    def next_facts(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def end(self) -> int:
        self.process.stdin.close()
        return self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def contained() -> None:
    """Between fork and exec: what follows is root as containers have it, who may not look at others' processes."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return held


def is_alive(pid: int) -> bool:
    """Whether a process has this pid, a zombie not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@cache
def _packages_for(user_id: int) -> str:
    """Where `user_id` can read Kinfolk and the wheel: ours may lie under root's closed home."""
    source, wheel = REPOSITORY / "src", Path(next(iter(find_spec(WHEEL).submodule_search_locations)))
    account = Account("ordinary", user_id, user_id)
    if not IS_ROOT or user_id == 0 or not any(map(account.first_closed, (source, wheel))):
        return f"{source}:{wheel.parent}"
    place = Path(tempfile.mkdtemp(prefix="kin"))
    atexit.register(shutil.rmtree, place)
    place.chmod(0o755)
    for tree in (source / "kinfolk", wheel, wheel.with_name(f"{WHEEL}.libs")):
        shutil.copytree(tree, place / tree.name, ignore=shutil.ignore_patterns("include", "pginstall"))
    return str(place)


@cache
def _python_for(user_id: int) -> str:
    """A Python that `user_id` can run: ours may lie under root's closed home."""
    if not IS_ROOT or user_id == 0:
        return sys.executable
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", "import json"], check=True, user=user_id, cwd="/")
        except (PermissionError, subprocess.CalledProcessError):
            continue
        return python
    raise AssertionError("an ordinary user can run no Python here: install python3")


def processes_in(cluster: Path) -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if works_in(cluster, int(entry.name))]
