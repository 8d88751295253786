"""The history of migrations: up, down, once, from anywhere, and on both servers."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Column, MetaData, Table, Text
from tests.checkout import copied
from tests.conftest import SERVERS, run_sql
from tests.postgres_places import REPOSITORY
from tests.rows_for_tables import Contents, contents, fill
from tests.running import kinfolk

from kinfolk.cli import run
from kinfolk.kit import migrate, revision
from kinfolk.kit.ending import Missing

REVISIONS = [script.revision for script in ScriptDirectory(str(revision.folder())).walk_revisions()][::-1]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    async def fetch() -> list[tuple[Any, ...]]:
        conn = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await conn.fetch(query)]
        finally:
            await conn.close()

    return asyncio.run(fetch())


# Everything in the schema `public` that a migration can make, as the server describes it.
SCHEMA = """
    SELECT 'column', table_name::text, column_name::text, data_type::text || is_nullable || coalesce(column_default, '')
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'type', typname::text, coalesce(string_agg(enumlabel, ',' ORDER BY enumsortorder), ''), ''
      FROM pg_type LEFT JOIN pg_enum ON enumtypid = pg_type.oid WHERE typnamespace = 'public'::regnamespace
      GROUP BY typname
    UNION ALL SELECT 'sequence', sequencename::text, '', '' FROM pg_sequences WHERE schemaname = 'public'
    ORDER BY 1, 2, 3
"""


@pytest.fixture(scope="module", params=SERVERS)
def empty(request: pytest.FixtureRequest, make_database: Any) -> str:
    url: str = make_database("migrations", request.param, is_empty=True)
    return url


@pytest.fixture(params=SERVERS)
def fresh(request: pytest.FixtureRequest, make_database: Any) -> str:
    url: str = make_database("fresh", request.param, is_empty=True)
    return url


def schema(url: str) -> list[tuple[Any, ...]]:
    return [row for row in rows(url, SCHEMA) if "alembic_version" not in row[1]]


def test_each_revision_goes_up_down_and_up_again(empty: str) -> None:
    """With a row in every table, which lives through it."""
    before = schema(empty)
    assert before == []
    held: Contents = {}
    for each in REVISIONS:
        assert run(["db", "upgrade", each, "--pg-url", empty]) == 0
        after = schema(empty)
        assert after != before
        fill(empty)
        assert run(["db", "downgrade", "-1", "--pg-url", empty]) == 0
        assert schema(empty) == before, f"{each} leaves something behind on its way down"
        assert contents(empty) == held, f"{each} loses rows on its way down"
        assert run(["db", "upgrade", each, "--pg-url", empty]) == 0
        assert schema(empty) == after
        assert of_columns(held, contents(empty)) == held, f"{each} loses rows on its way up"
        fill(empty)
        before, held = after, contents(empty)
    empties = {table for table, found in held.items() if not found}
    assert empties == {"pgqueuer_log"}, "a row in every table, but for the one that a trigger keeps empty"


def of_columns(older: Contents, newer: Contents) -> Contents:
    """What the newer tables hold in the older tables and columns."""
    return {
        table: [{name: row[name] for name in found[0]} for row in newer.get(table, [])] if found else newer[table]
        for table, found in older.items()
    }


def test_tables_and_migrations_agree(fresh: str, capfd: pytest.CaptureFixture[str]) -> None:
    migrate.upgrade(fresh)
    assert run(["db", "check", "--pg-url", fresh]) == 0
    run_sql(fresh, "ALTER TABLE citizens ADD COLUMN shoe_size int")
    assert run(["db", "check", "--pg-url", fresh]) == 1
    assert "kinfolk db: New upgrade operations detected" in capfd.readouterr().err


def test_nothing_is_left_at_the_base(fresh: str) -> None:
    migrate.upgrade(fresh)
    assert ("type", "gender", "male,female", "") in schema(fresh)
    assert run(["db", "downgrade", "base", "--pg-url", fresh]) == 0
    assert schema(fresh) == []


def test_the_newest_revision_is_known_without_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert revision.head() == REVISIONS[-1]
    versions = tmp_path / "versions"
    shutil.copytree(revision.folder() / "versions", versions)
    mako = (revision.folder() / "script.py.mako").read_text()
    written = re.sub(r"\$\{repr\(up_revision\)\}", "'zz9'", mako)
    (versions / "zz9_next.py").write_text(re.sub(r"\$\{repr\(down_revision\)\}", repr(REVISIONS[-1]), written))
    monkeypatch.setattr(revision, "folder", lambda: tmp_path)
    monkeypatch.setattr(revision, "_named", revision._named.__wrapped__)
    assert revision.head() == "zz9"


async def test_it_is_known_whether_the_database_is_current(fresh: str) -> None:
    conn = await asyncpg.connect(fresh)
    assert not await revision.is_current(conn)
    await asyncio.to_thread(migrate.upgrade, fresh)
    assert await revision.is_current(conn)
    await conn.execute("UPDATE alembic_version SET version_num = 'older'")
    assert not await revision.is_current(conn)
    await conn.close()


@pytest.mark.uncounted
def test_ten_starts_at_once_migrate_once(make_database: Any) -> None:
    fresh = make_database("ten", is_empty=True)
    program = [sys.executable, "-c", "import sys; from kinfolk.kit.migrate import upgrade; upgrade(sys.argv[1])", fresh]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}

    async def hold_until_all_wait() -> None:
        conn = await asyncpg.connect(fresh)
        await conn.execute("SELECT pg_advisory_lock($1)", migrate.LOCK)
        starts.extend(subprocess.Popen(program, stderr=subprocess.PIPE, env=environment, text=True) for _ in range(10))
        async with asyncio.timeout(60):
            while await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") < 10:
                await asyncio.sleep(0.05)
        await conn.close()

    starts: list[subprocess.Popen[str]] = []
    asyncio.run(hold_until_all_wait())
    assert [(start.communicate(timeout=180)[1], start.returncode) for start in starts] == [("", 0)] * 10
    assert rows(fresh, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


def test_it_works_from_any_folder(make_database: Any, tmp_path: Path) -> None:
    fresh = make_database("fresh", is_empty=True)
    done = kinfolk("db", "upgrade", "head", cwd=tmp_path, KINFOLK_PG_URL=fresh)
    assert (done.returncode, done.stderr) == (0, "")
    done = kinfolk("db", "current", cwd=tmp_path, KINFOLK_PG_URL=fresh)
    assert done.stdout == f"{REVISIONS[-1]} (head)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.uncounted
def test_a_new_revision_is_a_good_file(fresh: str, tmp_path: Path) -> None:
    package = copied(["src/kinfolk"], tmp_path) / "src" / "kinfolk"
    migrate.upgrade(fresh)
    tables = package / "modules" / "citizens" / "tables.py"
    tables.write_text(
        tables.read_text() + 'Table("pets", metadata, Column("pet_id", BigInteger, Identity(), primary_key=True),'
        ' Column("name", Text, nullable=False, index=True))\n'
    )
    where = {"PYTHONPATH": str(tmp_path / "src"), "KINFOLK_PG_URL": fresh}
    done = kinfolk("db", "revision", "-m", "pets, at last", "--autogenerate", cwd=tmp_path, **where)
    assert done.returncode == 0, done.stderr
    made = package / "migrations" / "versions" / f"{int(REVISIONS[-1]) + 1:04d}_pets_at_last.py"
    text = made.read_text()
    assert text.startswith('"""pets, at last."""\n')
    assert f'down_revision: str | Sequence[str] | None = "{REVISIONS[-1]}"\n' in text
    assert 'name=op.f("pk_pets")' in text
    ruff = Path(sys.executable).with_name("ruff")
    settings = ["--config", REPOSITORY / "pyproject.toml"]
    subprocess.run([ruff, "check", "--no-cache", *settings, made], check=True)
    subprocess.run([ruff, "format", "--no-cache", "--check", *settings, made], check=True)
    for words in (["upgrade", "head"], ["check"], ["downgrade", "-1"], ["upgrade", "head"]):
        done = kinfolk("db", *words, cwd=tmp_path, **where)
        assert done.returncode == 0, done.stderr


def test_a_new_revision_stays_as_it_is_where_there_are_no_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "9999_pets.py"
    made.write_text("x = 'y'\n")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("sys.executable", "/nowhere/python")
        migrate._tidied(str(made), {})
    assert made.read_text() == "x = 'y'\n"
    migrate._tidied(str(made), {})
    assert made.read_text() == 'x = "y"\n'


def test_the_statements_can_be_shown_instead(fresh: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "upgrade", "head", "--sql", "--pg-url", fresh]) == 0
    assert "CREATE TABLE citizens" in capfd.readouterr().out
    assert schema(fresh) == []


def changed(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


def test_a_server_that_does_not_let_us_in_is_missing(fresh: str, capfd: pytest.CaptureFixture[str]) -> None:
    place = fresh.partition("@")[2]
    for url, reason in [
        (f"postgresql://kinfolk:wrong@{place}", 'password authentication failed for user "kinfolk"'),
        (changed(fresh, path="/nowhere"), 'database "nowhere" does not exist'),
        ("postgresql://kinfolk@127.0.0.1:1/kin", "Connect call failed"),
        ("postgresql://kinfolk@no-such-host.invalid/kin", "Name or service not known|Temporary failure"),
    ]:
        assert run(["db", "current", "--pg-url", url]) == 3
        said = capfd.readouterr().err
        assert re.match(rf"PostgreSQL does not let us in: .*({reason})", said)
        assert said.count("\n") == 1


def test_a_server_that_does_not_answer_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert run(["db", "current", "--pg-url", f"postgresql://127.0.0.1:{silent.getsockname()[1]}/kin"]) == 3
    assert capfd.readouterr().err == "PostgreSQL does not let us in: no answer within 0.2 seconds\n"


def test_a_url_that_the_driver_does_not_take_is_wrong(fresh: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "current", "--pg-url", f"{fresh}?sslmode=perhaps"]) == 2
    assert "sslmode" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "usage: kinfolk db"), (["frobnicate"], "invalid choice: 'frobnicate'"), (["upgrade"], "required: revision")],
)
def test_words_that_alembic_does_not_know_are_wrong(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["db", *words]) == 2  # and no server was started for it
    assert said in capfd.readouterr().err


def test_what_alembic_refuses_is_a_failure(fresh: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["db", "upgrade", "xyzzy", "--pg-url", fresh]) == 1
    assert capfd.readouterr().err == "kinfolk db: Can't locate revision identified by 'xyzzy'\n"


@contextmanager
def aged(url: str) -> Iterator[str]:
    """A way to the server on which its version is planted: the bytes of the real one pass, `server_version` changed."""
    parts = urlsplit(url)
    front = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket, *, is_answer: bool) -> None:
        try:
            while piece := source.recv(65_536):
                target.sendall(re.sub(rb"(server_version\0)\d\d", rb"\g<1>14", piece) if is_answer else piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # the other side has gone first
            pass

    def serve() -> None:
        near, _ = front.accept()
        with near, socket.create_connection((parts.hostname or "", parts.port or 0)) as far:
            answers = threading.Thread(target=pass_on, args=(far, near), kwargs={"is_answer": True})
            answers.start()
            pass_on(near, far, is_answer=False)
            answers.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield changed(url, netloc=f"{parts.username}:{parts.password}@127.0.0.1:{front.getsockname()[1]}")
    finally:
        thread.join(60)
        front.close()


def test_a_server_that_is_too_old_is_refused(fresh: str) -> None:
    with aged(f"{fresh}?sslmode=disable") as url, pytest.raises(Missing, match="PostgreSQL 14 is too old"):
        migrate.upgrade(url)
    assert schema(fresh) == []
    migrate.upgrade(fresh)


def test_a_first_revision_makes_the_tables_that_it_is_given() -> None:
    pets = Table("pets", MetaData(), Column("pet_id", BigInteger, primary_key=True), Column("name", Text, index=True))
    text = migrate.first_of([pets], "9999", "Pets")
    assert text.startswith('"""Pets."""\n')
    assert f"revision: str = '9999'\ndown_revision: str | Sequence[str] | None = '{REVISIONS[-1]}'\n" in text
    up, down = text.split("def upgrade")[1].split("def downgrade")
    assert up.index("op.create_table('pets'") < up.index("op.create_index(") < up.index("'pets', ['name']")
    assert down.index("op.drop_index(") < down.index("op.drop_table('pets')")
    assert "###" not in text


def test_a_new_revision_takes_the_next_number_unless_told() -> None:
    assert migrate.read_words(["revision", "-m", "pets"]).rev_id == f"{int(REVISIONS[-1]) + 1:04d}"
    assert migrate.read_words(["revision", "-m", "pets", "--rev-id", "7"]).rev_id == "7"
