"""Backups: whole or not there, restored whole or not at all, and nothing told after the backup comes back."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import SERVERS, renamed, run_sql
from tests.kit.test_migrate import REVISIONS, rows
from tests.modules.citizens.registers import a_family
from tests.redis_server import RedisServer

from kinfolk.app import MODULES
from kinfolk.cli import run
from kinfolk.kit import postgres_binaries
from kinfolk.kit.backup import back_up, restore
from kinfolk.kit.cache import Cache
from kinfolk.kit.db import Database
from kinfolk.kit.ending import Ended, Missing, WrongSetting
from kinfolk.kit.http.application import application
from kinfolk.kit.postgres_binaries import choose_programs
from kinfolk.kit.postgres_programs import _connection
from kinfolk.kit.shelf import Shelf
from kinfolk.kit.statement import Statement

PEOPLE = """
    INSERT INTO imports DEFAULT VALUES;
    INSERT INTO citizens SELECT 1, n, 'Town', 'Street', '1', 1, 'Name ' || md5(n::text), '2000-01-01', 'male'
        FROM generate_series(1, 20000) n;
    INSERT INTO ties VALUES (1, 1, 2)
"""
SEEN = "SELECT 'citizens', count(*), max(name) FROM citizens UNION SELECT 'ties', count(*), NULL FROM ties ORDER BY 1"
WHOLE = [("citizens", 20_000, "Name ffffabaaf68b6a9e6e8ba7af1ac8ef6c"), ("ties", 1, None)]


@pytest.fixture
def database(make_database: Any) -> str:
    """A database with an import of 20,000 citizens: more than a pipe holds."""
    url: str = make_database("kept")
    run_sql(url, PEOPLE)
    return url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kinfolk.dump"


@pytest.fixture
def backed_up(database: str, file: Path) -> str:
    assert run(["backup", str(file), "--pg-url", database]) == 0
    return database


def seen(url: str) -> list[tuple[Any, ...]]:
    return rows(url, SEEN)


def test_a_name_that_cannot_be(capfd: pytest.CaptureFixture[str], database: str, tmp_path: Path) -> None:
    assert run(["backup", str(tmp_path / ("x" * 300)), "--pg-url", database]) == 2
    assert capfd.readouterr().err.endswith(" cannot be written: File name too long\n")


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_there_comes_back(
    server: str, make_database: Any, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = make_database("kept", server)
    run_sql(url, PEOPLE)
    before = seen(url)
    assert before[0][1] == 20_000
    assert run(["backup", str(file), "--pg-url", url]) == 0
    assert capfd.readouterr().out == f"{file}: {file.stat().st_size} bytes, revision {REVISIONS[-1]}\n"
    assert (file.stat().st_mode & 0o777, list(file.parent.iterdir())) == (0o600, [file])
    run_sql(url, "DELETE FROM ties; DELETE FROM citizens WHERE citizen_id > 5", "CREATE TABLE of_others (n int)")
    assert run(["restore", str(file), "--pg-url", url]) == 1
    assert "holds something already (audit, citizens, imports); --replace" in capfd.readouterr().err
    assert seen(url)[0][1] == 5
    assert run(["restore", str(file), "--pg-url", url, "--replace"]) == 0
    assert seen(url) == before
    assert rows(url, "SELECT to_regclass('of_others') IS NULL") == [(True,)]
    assert run(["db", "check", "--pg-url", url]) == 0


def test_a_folder_keeps_the_newest(make_database: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = make_database("nights")
    older = [tmp_path / f"kinfolk-2026-01-0{day}T023000Z.dump" for day in (1, 2, 3)]
    for path in (*older, tmp_path / "kinfolk-before-the-move.dump"):
        path.touch()
    assert run(["backup", str(tmp_path), "--keep", "2", "--pg-url", url]) == 0
    made, *removed = capfd.readouterr().out.splitlines()
    assert removed == [f"{path}: removed" for path in older[:2]]
    [newest] = set(tmp_path.iterdir()) - {older[2], tmp_path / "kinfolk-before-the-move.dump"}
    assert made.startswith(f"{newest}: {newest.stat().st_size} bytes, ")
    facts = f'{{"revision":"{REVISIONS[-1]}","bytes":{newest.stat().st_size}}}'
    assert rows(url, "SELECT deed, by, facts FROM audit") == [("backup.made", "command", facts)]


def test_an_older_kinfolks_tables_are_backed_up_without_an_entry(database: str, file: Path) -> None:
    run_sql(database, f"UPDATE alembic_version SET version_num = '{REVISIONS[0]}'")
    assert run(["backup", str(file), "--pg-url", database]) == 0
    assert rows(database, "SELECT count(*) FROM audit") == [(0,)]


def test_another_server_takes_it_into_an_empty_database(backed_up: str, make_database: Any, file: Path) -> None:
    for server in SERVERS:
        url = make_database("other", server, is_empty=server == "embedded")
        assert run(["restore", str(file), "--pg-url", url]) == 0
        assert seen(url) == seen(backed_up)


def test_no_number_and_no_version_is_given_twice(backed_up: str, file: Path) -> None:
    run_sql(backed_up, "UPDATE imports SET version = 7", "INSERT INTO imports DEFAULT VALUES")
    assert run(["restore", str(file), "--pg-url", backed_up, "--replace"]) == 0
    run_sql(backed_up, "INSERT INTO imports DEFAULT VALUES")
    assert rows(backed_up, "SELECT import_id, version > 7, version < 2 ^ 53 FROM imports ORDER BY 1") == [
        (1, True, True),
        (3, False, True),
    ]
    first = rows(backed_up, "SELECT version FROM imports WHERE import_id = 1")
    assert run(["restore", str(file), "--pg-url", backed_up, "--replace"]) == 0
    assert rows(backed_up, "SELECT version FROM imports WHERE import_id = 1") > first


@pytest.fixture
def url(make_database: Any) -> str:
    url: str = make_database("shelved")
    return url


async def test_what_redis_keeps_from_after_the_backup_is_never_shown(
    url: str, file: Path, redis_server: RedisServer
) -> None:
    """Both histories have a second version of the import; and whoever is connected finds the restored tables."""
    answers = Cache(0, Shelf(redis_server.url, url))  # keeps nothing by itself
    async with Database(url, size=3) as db, answers:
        transport = httpx.ASGITransport(application(MODULES, db, answers))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60) as client:

            async def corrected(name: str) -> tuple[str, str]:
                assert (await client.patch("/imports/1/citizens/1", json={"name": name})).status_code == 200
                answer = await client.get("/imports/1/citizens")
                return answer.headers["etag"], answer.json()["data"][0]["name"]

            assert (await client.post("/imports", json={"citizens": a_family(_1=[])})).status_code == 201
            assert await asyncio.to_thread(run, ["backup", str(file), "--pg-url", url]) == 0
            old_tag, name = await corrected("After the backup")
            assert name == "After the backup"
            while not redis_server.names():  # it is put there in a while
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(run, ["restore", str(file), "--pg-url", url, "--replace"]) == 0
            async with asyncio.timeout(60):
                while (await client.get("/ready")).status_code != 200:
                    await asyncio.sleep(0.05)
            new_tag, name = await corrected("After the restore")
            assert (name, new_tag != old_tag) == ("After the restore", True)


def test_a_backup_of_an_older_kinfolk_is_brought_up_to_date(make_database: Any, file: Path) -> None:
    older, url = make_database("older", is_empty=True), make_database("newer")
    assert run(["db", "upgrade", REVISIONS[0], "--pg-url", older]) == 0
    run_sql(older, "INSERT INTO imports DEFAULT VALUES")
    assert run(["backup", str(file), "--pg-url", older]) == 0
    assert run(["restore", str(file), "--pg-url", url]) == 0
    assert rows(url, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    assert rows(url, "SELECT import_id, version > 1 FROM imports") == [(1, True)]
    assert run(["db", "check", "--pg-url", url]) == 0


def test_tables_that_the_older_revision_does_not_have_need_no_renewal(make_database: Any, file: Path) -> None:
    url = make_database("newer")
    assert run(["backup", str(file), "--pg-url", url]) == 0
    absent = [Statement("UPDATE pets SET version = 9", (), {}), Statement("UPDATE imports SET pets = 9", (), {})]
    assert restore(url, file, None, absent, is_replacing=True) == REVISIONS[-1]


def test_a_backup_of_a_newer_kinfolk_is_refused_by_name(
    backed_up: str, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_sql(backed_up, "UPDATE alembic_version SET version_num = 'zz99'")
    assert run(["backup", str(file), "--pg-url", backed_up]) == 0
    before = seen(backed_up)
    assert run(["restore", str(file), "--pg-url", backed_up, "--replace"]) == 1
    assert f"made by a newer Kinfolk, at revision zz99; this one knows those up to {REVISIONS[-1]}" in (
        capfd.readouterr().err
    )
    assert seen(backed_up) == before


def test_a_file_cut_short_changes_nothing(backed_up: str, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_sql(backed_up, "DELETE FROM ties")
    before = seen(backed_up)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    assert run(["restore", str(file), "--pg-url", backed_up, "--replace"]) == 1
    assert capfd.readouterr().err.startswith("pg_restore failed:\n")
    assert seen(backed_up) == before


def test_an_error_at_the_very_end_changes_nothing(backed_up: str, file: Path) -> None:
    run_sql(backed_up, "DELETE FROM ties")
    before = seen(backed_up)
    with pytest.raises(Ended, match=r"(?s)psql failed.*division by zero"):
        restore(backed_up, file, None, [Statement("PERFORM 1/0", (), {})], is_replacing=True)
    assert seen(backed_up) == before


@pytest.fixture
def odd_programs(tmp_path: Path) -> Iterator[Path]:
    """A folder with the programs, each of which a test may replace."""
    real = choose_programs(18, None)
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("pg_dump", "pg_restore", "psql"):
        (folder / program).symlink_to(real / program)
    return folder


def replace(program: Path, script: str) -> None:
    program.unlink()
    version = 'case "$1" in --version) echo "x (PostgreSQL) 18.0"; exit;; esac'
    program.write_text(f"#!/bin/sh\n{version}\n{script}\n")
    program.chmod(0o755)


def test_who_ends_before_it_has_read_everything_says_why(
    backed_up: str, file: Path, odd_programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    replace(odd_programs / "psql", "echo no more room >&2; exit 3")
    words = ["restore", str(file), "--pg-url", backed_up, "--pg-bin", str(odd_programs), "--replace"]
    assert run(words) == 1
    assert capfd.readouterr().err == "psql failed:\nno more room\n"
    assert seen(backed_up)[0][1] == 20_000


def test_there_is_never_half_a_file(
    backed_up: str, file: Path, odd_programs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    half = 'for word; do case $word in --file=*) echo half >"${word#--file=}";; esac; done'
    replace(odd_programs / "pg_dump", f"{half}; echo disk full >&2; exit 1")
    assert run(["backup", str(file), "--pg-url", backed_up, "--pg-bin", str(odd_programs)]) == 1
    assert "disk full" in capfd.readouterr().err
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["bin", file.name]


def test_what_cannot_be_is_told(
    backed_up: str, file: Path, make_database: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WrongSetting, match="cannot be written: Is a directory"):
        back_up(backed_up, tmp_path, None)
    (tmp_path / "no-archive").write_text("hello")
    newer = tmp_path / "newer.dump"
    newer.write_bytes(b"PGDMP\x01\xff" + file.read_bytes()[7:])  # the version of the archive's form
    empty = make_database("empty", is_empty=True)
    for words, code, said in [
        (["backup", "/nowhere/kin.dump"], 2, "cannot be written: No such file or directory"),
        (["backup", str(file), "--keep", "3"], 2, "--keep is for a folder of backups"),
        (["restore", str(tmp_path / "absent")], 2, "cannot be read"),
        (["restore", str(tmp_path / "no-archive")], 1, "does not appear to be a valid archive"),
        (["restore", str(newer)], 3, "was written by a newer PostgreSQL's programs than those in"),
        (["backup", str(file), "--pg-url", empty], 1, "holds no tables of Kinfolk"),
        (["backup", str(file), "--pg-url", renamed(empty, "nowhere")], 3, "does not let us in"),
    ]:
        assert run([*words, *([] if "--pg-url" in words else ["--pg-url", backed_up])]) == code, words
        assert said in capfd.readouterr().err
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "statement", ["DELETE FROM alembic_version", "ALTER TABLE alembic_version SET SCHEMA elsewhere"]
)
def test_a_dump_without_a_revision_is_no_backup(
    statement: str, database: str, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_sql(database, "CREATE SCHEMA elsewhere", statement)
    program = choose_programs(18, None) / "pg_dump"
    subprocess.run([program, "--format=custom", f"--file={file}", database], check=True)
    assert run(["restore", str(file), "--pg-url", database, "--replace"]) == 1
    assert capfd.readouterr().err == f"{file} is no backup of Kinfolk: it has no revision\n"


def test_a_check_restores_beside(backed_up: str, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert run(["backup", "--check", str(file)]) == 0
    said = capfd.readouterr().out
    assert "\ncitizens 20000\n" in f"\n{said}"
    assert f"can be restored: revision {REVISIONS[-1]}, 20002 rows in" in said


def test_what_an_extension_made_stays(make_database: Any, file: Path) -> None:
    url = make_database("extended", "system")
    run_sql(url, "CREATE EXTENSION pg_trgm")
    assert run(["backup", str(file), "--pg-url", url]) == 0
    run_sql(url, "CREATE TYPE mood AS ENUM ('glad')", "CREATE VIEW v AS SELECT 1")
    assert run(["restore", str(file), "--pg-url", url, "--replace"]) == 0
    assert rows(url, "SELECT similarity('kin', 'kin'), to_regtype('mood'), to_regclass('v')") == [(1.0, None, None)]


@pytest.mark.parametrize(
    ("url", "word", "password"),
    [
        ("postgresql://kin:s%40cret@host:5432/name", "postgresql://kin@host:5432/name", "s@cret"),
        ("postgresql://kin@host/name?sslmode=require", "postgresql://kin@host/name?sslmode=require", None),
        ("postgresql://host/name?password=a+b&user=kin", "postgresql://host/name?user=kin", "a b"),
    ],
)
def test_no_password_stands_on_a_command_line(url: str, word: str, password: str | None) -> None:
    words, environment = _connection(url)
    assert words == ("--dbname", word)
    assert environment.get("PGPASSWORD") == password


def test_programs_fit_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def programs(folder: Path, version: str) -> Path:
        folder.mkdir(parents=True)
        for name in ("pg_dump", "pg_restore", "psql"):
            (folder / name).write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
            (folder / name).chmod(0o755)
        return folder

    monkeypatch.setattr(postgres_binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_binaries, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Missing, match=r"(?s)of PostgreSQL 16 or newer were not found. Here: none.*client-16"):
        choose_programs(16, None)
    named = programs(tmp_path / "named", "17.1")
    with pytest.raises(Missing, match=f"Here: 17 in {named}"):
        choose_programs(18, named)
    newest, same = (programs(tmp_path / "system" / name / "bin", f"{name}.2") for name in ("18", "16"))
    assert choose_programs(16, None) == same
    assert choose_programs(16, None, is_newest=True) == newest
    assert choose_programs(16, named, is_newest=True) == newest
    assert choose_programs(17, None) == newest
    assert choose_programs(16, named) == named
    (same / "psql").unlink()
    assert choose_programs(16, None) == newest
    monkeypatch.setenv("PATH", str(programs(tmp_path / "path", "15.9")))
    assert choose_programs(15, None) == tmp_path / "path"
