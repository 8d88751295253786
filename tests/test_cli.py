"""`kinfolk` as a word on the command line: help, names, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinfolk import __version__
from kinfolk.cli import main_db, run
from tests.postgres_places import REPOSITORY
from tests.running import kinfolk

NO_SERVER = "postgresql://127.0.0.1/kin"


def test_help_lists_every_word_with_what_it_does() -> None:
    done = kinfolk("--help")
    assert done.returncode == 0
    for word, does in {
        "api": "Answer HTTP",
        "db": "Look after the tables",
        "generate": "Write an example register",
        "import": "Send a register",
        "settings": "Show every setting",
        "up": "Start everything",
        "Exit": "codes: 0 ended as asked, 1 failed, 2 wrong usage or settings, 3 something needed is not there",
    }.items():
        assert does in done.stdout.partition(f" {word} ")[2], word
    assert kinfolk().stdout == done.stdout


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        ("up", ["--api-port", "KINFOLK_API_PORT", "[default: 8080]", "/var/lib/kinfolk", "KINFOLK_LOG_LEVEL"]),
        ("api", ["--workers", "KINFOLK_WORKERS", "[default: 1]", "--grace-seconds", "[default: 20.0]", "KINFOLK_UDS"]),
        ("db", ["--pg-url", "KINFOLK_PG_URL", "upgrade head"]),
        ("import", ["--api-url", "KINFOLK_API_URL", "[default: http://127.0.0.1:8080]", "KINFOLK_TOKEN_FILE"]),
        ("settings", ["--config", "KINFOLK_CONFIG", "KINFOLK_PG_URL", "KINFOLK_TOKEN_FILE"]),
    ],
)
def test_help_shows_defaults_and_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, facts: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    for fact in facts:
        assert fact in out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_an_unknown_word_is_wrong_usage() -> None:
    done = kinfolk("upp")
    assert (done.returncode, done.stdout) == (2, "")
    assert '"upp"' in done.stderr


def test_ctrl_c_while_it_is_being_loaded_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    done = kinfolk("--version", PYTHONPATH=f"{tmp_path}:{REPOSITORY / 'src'}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_kinfolk_db_is_the_same_as_kinfolk_with_db(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["db", "history", "--pg-url", NO_SERVER]) == 0
    said = capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["kinfolk-db", "history", "--pg-url", NO_SERVER])
    with pytest.raises(SystemExit) as end:
        main_db()
    assert end.value.code == 0
    assert capsys.readouterr().out == said
    assert "-> 0001" in said


@pytest.mark.parametrize("is_buffered", [True, False])
def test_a_reader_who_has_seen_enough_is_no_failure(is_buffered: bool) -> None:
    command = [sys.executable, "-m", "kinfolk", "settings"]
    environment = os.environ | {"PYTHONUNBUFFERED": "" if is_buffered else "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


@pytest.mark.parametrize("words", [["settings"], ["generate", "9"], ["generate", "9000"]])
def test_a_full_disk_is_a_failure_in_plain_words(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "kinfolk", *words, *(["--seed", "1"] if "generate" in words else [])]
        environment = os.environ | {"PYTHONUNBUFFERED": ""}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "cannot write: No space left on device\n")


def test_who_closed_standard_output_wants_to_hear_nothing() -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "kinfolk", "settings"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
