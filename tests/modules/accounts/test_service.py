"""Accounts as their users meet them: a service of two workers that asks who it is, and the commands beside it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.modules.accounts.asking import LOCAL, SECRET, Asking
from tests.modules.citizens.registers import a_citizen
from tests.redis_server import RedisServer
from tests.running import Service

from kinfolk.cli import run
from kinfolk.modules.accounts.first import make_first_admin

FIRST = re.compile(r"^The first administrator is admin, with the password (\S{20})$", re.MULTILINE)


@pytest.fixture(scope="module")
def other_url(make_database: Any) -> str:
    return make_database("other")


def test_the_first_admin_is_told_of_once_and_can_log_in(asking: Asking, secret: Path) -> None:
    first = asking.service
    with Service("api", "--auth", "required", *asking.words) as second:
        told = [FIRST.findall(service.log) for service in (first, second)]
        assert [len(passwords) for passwords in told] == [1, 0]
        token = asking.token("admin", told[0][0])
        assert asking.shown(token) == 200
        assert asking.shown("nonsense") == 401
        assert Asking(second, asking.words, secret).shown(token) == 200
        assert [first.log.count(told[0][0]), first.log.count(token), second.log.count(told[0][0])] == [1, 0, 0]


def test_it_is_made_where_there_is_a_database_and_nobody(
    other_url: str, empty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in (empty_url, "postgresql://127.0.0.1:1/none", other_url, other_url):
        make_first_admin(url)
    assert len(FIRST.findall(capsys.readouterr().err)) == 1


def test_a_token_ends_for_every_worker(asking: Asking, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = [asking.add("ended", "analyst"), asking.token("ended"), asking.token("ended")]
    assert capsys.readouterr().out.split()[1:3] == ["analyst", "active"]
    assert {asking.shown(token) for token in tokens for _ in range(4)} == {200}
    assert asking.shown(tokens[0], "/api/v1/user/auth", "DELETE") == 204
    asking.until_all_answer(401, tokens[0])
    assert asking.shown(tokens[1]) == 200
    assert asking.shown(tokens[1], "/api/v1/user/sessions", "DELETE") == 204
    asking.until_all_answer(401, tokens[2])


def test_whom_a_command_disables_is_out_until_it_resets_the_password(
    asking: Asking, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    token = asking.add("forgetful", "analyst")
    assert asking.shown(token) == 200
    assert run(["user", "disable", "FORGETFUL", *asking.words]) == 0
    assert capsys.readouterr().out.split()[-1] == "forgetful"
    asking.until_all_answer(401, token)
    assert asking.log_in("forgetful").status_code == 401
    (tmp_path / "new").write_text("another secret of mine")
    assert run(["user", "reset", "forgetful", "--password-file", str(tmp_path / "new"), *asking.words]) == 0
    assert asking.log_in("forgetful").status_code == 401
    asking.token("forgetful", "another secret of mine")
    capsys.readouterr()
    assert run(["user", "list", *asking.words]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith("  forgetful")]
    assert line.split()[1:3] == ["analyst", "active"]


def test_a_supplier_imports_with_a_token_file(
    asking: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(asking.add("supplying", "supplier"))
    (tmp_path / "register.json").write_text(json.dumps({"citizens": [a_citizen(1)]}))
    capsys.readouterr()
    command = ["import", str(tmp_path / "register.json"), "--api-url", asking.service.url]
    assert run(command) == 1
    assert "This needs a token: log in. (401)" in capsys.readouterr().err
    assert run([*command, "--token-file", str(tmp_path / "token")]) == 0
    number = capsys.readouterr().out.split()[-1]
    token = (tmp_path / "token").read_text()
    assert asking.shown(token, f"/imports/{number}/citizens") == 200
    assert asking.shown(asking.add("competing", "supplier"), f"/imports/{number}/citizens") == 404
    assert run(["jobs", "list", "--api-url", asking.service.url, "--token-file", str(tmp_path / "token")]) == 0


def test_failures_count_for_all_workers(asking: Asking) -> None:
    asking.add("guessed", "analyst")
    statuses = [asking.log_in("guessed", "wrong").status_code for _ in range(9)]
    assert statuses == [401] * 5 + [429] * 4


def test_with_a_redis(make_database: Any, secret: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its tokens end for every worker, and while it is away nobody passes."""
    with RedisServer() as redis:
        words = ("--pg-url", make_database("asking_redis"), "--redis-url", redis.url)
        with Service("api", "--workers", "2", "--auth", "required", *words) as service:
            asking = Asking(service, words, secret)
            token = asking.add("anna", "analyst")
            assert {asking.shown(token) for _ in range(8)} == {200}
            capsys.readouterr()
            assert run(["user", "disable", "anna", *words[:2]]) == 1
            out, err = capsys.readouterr()
            assert out.split()[2] == "disabled"
            assert err == "tokens of this user are in a Redis, and stand: say it again with --redis-url\n"
            assert asking.log_in("anna").status_code == 401
            assert asking.shown(token) == 200
            assert run(["user", "disable", "anna", *words]) == 0
            asking.until_all_answer(401, token)
            old = asking.add("bert", "analyst")
            change = {"current_password": SECRET, "password": "another secret of mine"}
            me = f"{service.url}/api/v1/user/me"
            changed = httpx.patch(me, json=change, headers={"authorization": f"Bearer {old}"}, **LOCAL)
            token = changed.json()["data"]["access_token"]
            asking.until_all_answer(401, old)
            asking.until_all_answer(200, token)
            redis.kill()
            asking.until_all_answer(503, token)
            assert asking.log_in("bert", "another secret of mine").status_code == 503
            capsys.readouterr()
            assert run(["user", "disable", "bert", *words]) == 3
            assert "Redis of --redis-url does not answer" in capsys.readouterr().err
            assert httpx.get(f"{service.url}/health", **LOCAL).status_code == 200


def test_what_a_command_refuses(
    pg_url: str, empty_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    add = ["user", "add", "--pg-url", pg_url]
    for text, name, role, words in (
        ("short\n", "new", "admin", "/password"),
        ("password1\n", "new", "admin", "most common"),
        (SECRET, "two words", "admin", "/username"),
        (SECRET, "new", "owner", "owner"),
    ):
        file.write_text(text)
        assert run([*add, name, "--role", role, "--password-file", str(file)]) in (1, 2)
        assert words in capsys.readouterr().err
    assert run([*add, "new", "--role", "admin", "--password-file", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert run(["user", "disable", "nobody", "--pg-url", pg_url]) == 1
    assert capsys.readouterr().err == "There is no such user.\n"
    assert run(["user", "list", "--pg-url", empty_url]) == 1
    assert "kinfolk db upgrade head" in capsys.readouterr().err
    assert run(["user", "list", "--pg-url", "postgresql://127.0.0.1:1/none"]) == 3
    assert capsys.readouterr().err == "The database does not answer just now.\n"


@pytest.fixture(scope="module")
def empty_url(make_database: Any) -> str:
    return make_database("bare", is_empty=True)


def test_a_password_is_asked_for_where_somebody_sits(
    pg_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add = ["user", "add", "typed", "--role", "supplier", "--pg-url", pg_url]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(add) == 2
    assert "nobody to ask" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for typed, code in ((("one secret word", "another secret word"), 1), ((SECRET, SECRET), 0)):
        answers = iter(typed)
        monkeypatch.setattr("kinfolk.modules.accounts.commands.getpass", lambda _words, answers=answers: next(answers))
        assert run(add) == code
    assert "two passwords" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("a secret from a pipe\r\n"))
    assert run(["user", "reset", "typed", "--password-file", "-", "--pg-url", pg_url]) == 0


def test_a_service_that_asks_nobody(service: Service) -> None:
    assert "administrator" not in service.log.partition("ready role=")[0]
    assert httpx.get(f"{service.url}/api/v1/users", **LOCAL).status_code == 200
    assert httpx.get(f"{service.url}/user/me", **LOCAL).status_code == 404
    assert httpx.get(f"{service.url}/api/v1/user/me", **LOCAL).status_code == 401
    by_name = {"host": "kinfolk.example.org"}
    assert httpx.get(f"{service.url}/health", headers=by_name, **LOCAL).status_code == 403
