"""A backup is a file of `pg_dump`; it is restored in one transaction, after which no old entity tag holds any more."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from kinfolk.kit import audit, migrate, revision
from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.ending import FAILED, Ended, Missing, WrongSetting
from kinfolk.kit.postgres_binaries import choose_programs
from kinfolk.kit.postgres_programs import Programs
from kinfolk.kit.statement import Statement

T = TypeVar("T")

ARCHIVE = ("--schema=public", "--no-owner", "--no-privileges")
"""What is ours: neither extensions, which only a superuser can make, nor whose it was on the other server."""
BACKED_UP = "backup.made"
"""The deed that the audit log has for each."""
NEWEST_SETTING = b"SET transaction_timeout = 0;\n"
"""What programs of PostgreSQL 17 and 18 tell every server, and older ones refuse."""

# Whoever is at work in the tables loses the connection and then finds the restored ones. What would wait for somebody
# who never ends is given up.
OTHERS_END = """\
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
  WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();
"""
BEGIN = f"""\
BEGIN;
SET LOCAL lock_timeout = '60s';
SELECT pg_advisory_xact_lock({migrate.LOCK});
CREATE TEMP TABLE kinfolk_numbers ON COMMIT DROP AS
  SELECT schemaname, sequencename, last_value FROM pg_catalog.pg_sequences WHERE schemaname = 'public';
{OTHERS_END}"""  # noqa: S608  # of our own words
# What an extension has made stays.
EMPTY = """\
DO $$
DECLARE each text;
BEGIN
  FOR each IN
    SELECT format('DROP %s IF EXISTS %s CASCADE', kind, name) FROM (
      SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        ELSE 'TABLE' END, format('%I.%I', nspname, relname), 'pg_class'::regclass, pg_class.oid
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v', 'm', 'S')
      UNION ALL SELECT 'ROUTINE', oid::regprocedure::text, 'pg_proc'::regclass, oid
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace
      UNION ALL SELECT 'TYPE', format('%I.%I', 'public', typname), 'pg_type'::regclass, oid
        FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
    ) AS ours (kind, name, catalogue, object)
    WHERE NOT EXISTS (SELECT FROM pg_depend WHERE classid = catalogue AND objid = object AND deptype IN ('e', 'i'))
  LOOP
    EXECUTE each;
  END LOOP;
END $$;
"""
# No number is given twice, also where it was given after the backup.
END = f"""\
SELECT setval(format('%I.%I', was.schemaname, was.sequencename)::regclass, was.last_value)
  FROM pg_temp.kinfolk_numbers was JOIN pg_catalog.pg_sequences now USING (schemaname, sequencename)
  WHERE was.last_value > coalesce(now.last_value, 0);
COMMIT;
{OTHERS_END}"""  # noqa: S608  # of our own words
# The tables of an older revision may not have what is renewed; then nothing was told of it.
RENEWAL = "DO $$ BEGIN {}; EXCEPTION WHEN undefined_table OR undefined_column THEN NULL; END $$;\n"


def back_up(url: str, file: Path, pg_bin: Path | None) -> str:
    """Write a backup of one state of the database, whole or not at all; nobody waits for it. Returns the revision.

    `pg_bin` is where to look for PostgreSQL's programs first. Raises Ended, Missing and WrongSetting; so do the others.
    """
    programs = _programs(url, pg_bin)
    if not _ask(url, _has_tables):  # pragma: no cover  # tested; 3.11 loses the trace at asyncpg's error
        raise Ended(FAILED, "the database holds no tables of Kinfolk, so there is nothing to back up")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise WrongSetting(f"{file} cannot be written: {error.strerror}") from None
    begun = Path(name)
    try:
        os.close(descriptor)
        programs.run("pg_dump", "--format=custom", *ARCHIVE, f"--file={begun}", url=url)
        found = revision_in(begun, programs)
        _sync(begun)
        try:
            begun.rename(file)
        except OSError as error:
            raise WrongSetting(f"{file} cannot be written: {error.strerror}") from None
        _sync(file.parent)
    finally:
        begun.unlink(missing_ok=True)
    _ask(url, lambda conn: _note(conn, found, file.stat().st_size))
    return found


def file_of_now(folder: Path) -> Path:
    """Where in a folder a backup of this moment goes; by their names those of before come first."""
    return folder / f"kinfolk-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.dump"


def remove_older(folder: Path, kept: int) -> list[Path]:
    """Remove the backups of a folder but for the newest ones; those that went."""
    older = sorted(folder.glob("kinfolk-[0-9]*Z.dump"))[:-kept]
    for each in older:
        each.unlink()
    return older


def restore(
    url: str, file: Path, pg_bin: Path | None, renewals: Sequence[Statement], *, is_replacing: bool = False
) -> str:
    """Put a backup in the place of what the database holds, or change nothing; then bring it to the head.

    Returns the revision it was made at. Whoever is connected loses the connection. Without `is_replacing` it refuses
    a database in which there is a row.
    """
    programs = _programs(url, pg_bin, is_newest=True)
    found = revision_in(file, programs)
    if found not in revision.known():
        raise Ended(
            FAILED,
            f"{file} was made by a newer Kinfolk, at revision {found}; this one knows those up to {revision.head()}."
            " Restore it with that Kinfolk. Nothing was changed.",
        )
    full = _ask(url, _tables_with_rows)
    if full and not is_replacing:
        raise Ended(
            FAILED, f"the database holds something already ({', '.join(full)}); --replace puts the backup in its place"
        )
    _load(url, file, programs, renewals)
    migrate.upgrade(url)
    return found


def check(file: Path, pg_bin: Path | None, renewals: Sequence[Statement]) -> tuple[str, dict[str, int]]:
    """Restore a backup into a server made for it, which is gone afterwards.

    Returns the revision it was made at, and how many rows each table has.

    That proves that the file can be read to its end, that each row, key and constraint in it loads, and that the
    migrations bring it to the head.
    """
    with tempfile.TemporaryDirectory(prefix="kinfolk-check-") as place:
        Path(place).chmod(0o711)  # as root, PostgreSQL's user must pass
        with EmbeddedPostgres(Path(place) / "data", binaries=pg_bin) as server:
            url = server.start()
            found = restore(url, file, pg_bin, renewals)
            return found, _ask(url, _row_counts)


def revision_in(file: Path, programs: Programs) -> str:
    """The revision that a backup was made at."""
    if not os.access(file, os.R_OK):
        raise WrongSetting(f"{file} cannot be read")
    try:
        said = programs.run("pg_restore", "--data-only", "--table=alembic_version", "--file=-", str(file)).decode()
    except Ended as end:
        if "unsupported version" not in str(end):
            raise
        raise Missing(
            f"{file} was written by a newer PostgreSQL's programs than those in {programs.folder}, which cannot read"
            " it. Name the folder of newer ones with --pg-bin."
        ) from None
    _, is_there, rows = said.partition("COPY public.alembic_version (version_num) FROM stdin;\n")
    found = rows.partition("\n")[0]
    if not is_there or found == "\\.":
        raise Ended(FAILED, f"{file} is no backup of Kinfolk: it has no revision")
    return found


def _load(url: str, file: Path, programs: Programs, renewals: Sequence[Statement]) -> None:
    """All in one transaction, whose COMMIT is written only after `pg_restore` has read the file to its end."""
    alone = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-")
    with programs.begun("psql", *alone, url=url, stdin=subprocess.PIPE) as loading:
        script = loading.stdin
        assert script is not None
        script.write((BEGIN + EMPTY).encode())
        with programs.begun("pg_restore", *ARCHIVE, "--file=-", str(file), stdout=subprocess.PIPE) as reading:
            assert reading.stdout is not None
            _copy(reading.stdout, script)
        renewed = "".join(RENEWAL.format(statement.text) for statement in renewals)
        script.write(("SET LOCAL search_path TO public;\n" + renewed + END).encode())
        script.close()


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """The settings that come first, without the one that older servers do not know, then all the rest."""
    line = b"-"
    while line and not line.startswith(b"SET row_security"):
        line = source.readline()
        if line != NEWEST_SETTING:
            target.write(line)
    shutil.copyfileobj(source, target, 1_048_576)


def _programs(url: str, pg_bin: Path | None, *, is_newest: bool = False) -> Programs:
    async def major(conn: Any) -> int:
        return int(conn.get_server_version().major)

    return Programs(choose_programs(_ask(url, major), pg_bin, is_newest=is_newest))


async def _row_counts(conn: Any) -> dict[str, int]:
    return {
        name: await conn.fetchval(f"SELECT count(*) FROM {full_name}")  # noqa: S608  # quoted by the server
        for name, full_name in await _tables(conn)
    }


async def _tables_with_rows(conn: Any) -> list[str]:
    return [
        name
        for name, full_name in await _tables(conn)
        if await conn.fetchval(f"SELECT EXISTS (SELECT FROM {full_name})")  # noqa: S608  # quoted by the server
    ]


async def _tables(conn: Any) -> list[tuple[str, str]]:
    """The tables that hold something of somebody, each as it is called and as it is written in a statement."""
    return [
        (tablename, full_name)
        for tablename, full_name in await conn.fetch(
            "SELECT tablename, format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY tablename"
        )
    ]


async def _note(conn: Any, at_revision: str, size_bytes: int) -> None:
    """That all about everybody was copied, and for `kinfolk doctor`, when; an older Kinfolk's tables have no room."""
    if await revision.is_current(conn):
        await audit.note(conn, BACKED_UP, by="command", revision=at_revision, bytes=size_bytes)


async def _has_tables(conn: Any) -> bool:
    return await revision.revision_of(conn) is not None


def _ask(url: str, question: Callable[[Any], Awaitable[T]]) -> T:
    async def ask() -> T:
        conn = await migrate.connect(url)
        try:
            return await question(conn)
        finally:
            await conn.close()

    return asyncio.run(ask())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
