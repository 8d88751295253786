"""`kinfolk audit`: what it finds, and how it ends."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from tests.scripted_service import Answer, scripted_service

from kinfolk.cli import run
from kinfolk.kit import audit, chain
from kinfolk.kit.db import Database


@pytest.fixture
def audited(make_database: Any) -> Iterator[str]:
    """A database with three entries, one of them not in the chain yet."""
    url = make_database("audit_commands")

    async def fill() -> None:
        async with Database(url) as db:
            for number in range(3):
                async with db.transaction() as conn:
                    await audit.note(conn, "citizen.changed", by="user:1", import_id=1, citizen_id=number)
                if number == 1:
                    await chain.seal_all(db)

    asyncio.run(fill())
    return url


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["audit", *words])
    out, err = capsys.readouterr()
    return code, out, err


def execute(url: str, *statements: str) -> None:
    async def run_them() -> None:
        conn = await asyncpg.connect(url)
        for statement in statements:
            await conn.execute(statement)
        await conn.close()

    asyncio.run(run_them())


def test_a_whole_chain_is_told_with_its_anchor(audited: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "verify", "--pg-url", audited)
    assert (code, err) == (0, "")
    assert out.startswith("3 entries, each as it was noted; the last is 3:")
    anchor = out.split()[-1]
    assert said(capsys, "verify", "--pg-url", audited, "--since", anchor) == (0, out, "")
    other = f"3:{'0' * 64}"
    code, out, err = said(capsys, "verify", "--pg-url", audited, "--since", other)
    assert (code, out) == (1, "")
    assert "entry 3 is not the one that was noted" in err


def test_a_broken_chain_names_the_first_bad_entry(audited: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "verify", "--pg-url", audited)[0] == 0
    execute(audited, "ALTER TABLE audit DISABLE TRIGGER USER", "UPDATE audit SET by = 'user:2' WHERE number = 2")
    code, out, err = said(capsys, "verify", "--pg-url", audited)
    assert (code, out, err) == (1, "", "entry 2 was changed\n")


@pytest.mark.parametrize("anchor", ["3", "3:", f"3:{'g' * 64}", f"x:{'0' * 64}", f"3:{'0' * 63}"])
def test_what_is_no_anchor_is_wrong_usage(audited: str, capsys: pytest.CaptureFixture[str], anchor: str) -> None:
    code, _, err = said(capsys, "verify", "--pg-url", audited, "--since", anchor)
    assert code == 2
    assert "--since must look like" in err


def test_old_entries_are_cut(audited: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "cut", "--before", "2020-01-01", "--pg-url", audited) == (0, "removed 0\n", "")
    assert said(capsys, "cut", "--before", "2999-01-01", "--pg-url", audited) == (0, "removed 2\n", "")
    code, out, _ = said(capsys, "verify", "--pg-url", audited)
    assert code == 0
    assert out.startswith("2 entries, each as it was noted; the last is 4:")
    assert said(capsys, "cut", "--before", "2999-01-01T00:00:00+02:00", "--pg-url", audited)[1] == "removed 1\n"


def test_tables_of_another_day_are_no_accident(make_database: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = make_database("audit_empty", is_empty=True)
    code, _, err = said(capsys, "verify", "--pg-url", url)
    assert code == 1
    assert "kinfolk db upgrade head" in err
    away = "postgresql://kinfolk@127.0.0.1:1/kinfolk"
    code, _, err = said(capsys, "verify", "--pg-url", away)
    assert (code, err) == (3, "The database does not answer just now.\n")


ENTRIES = b"""[
{"number": 2, "happened_at": "2026-11-22T12:00:00Z", "deed": "citizen.changed", "by": "user:7", "request_id": "8f14",
"address": "::1", "import_id": 1, "citizen_id": 7, "facts": {"fields": ["name", "town"]}},
{"number": 3, "happened_at": "2026-11-22T12:00:01Z", "deed": "user.\\u001b[2J", "by": "command", "facts": {"id": 4}}
]"""


def test_the_list_is_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service(Answer(200, ENTRIES)) as service:
        code, out, err = said(capsys, "list", "--by", "user:7", "--import-id", "1", "--api-url", service.url)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "       2  2026-11-22 12:00:00  citizen.changed  user:7  ::1  8f14  import 1  citizen 7  fields name,town",
        "       3  2026-11-22 12:00:01  user.\\x1b[2J  command  -  -  id 4",
    ]
    assert [request.path for request in service.heard] == ["/api/v1/audit?by=user%3A7&import_id=1&after=0&limit=100"]
