"""Settings, as an operator gives them: flags, variables, files."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinfolk.cli import run
from kinfolk.kit.settings import default_data_dir, every_setting, masked


class CommandLine:
    """`kinfolk` in this process, which spares each test the second that the imports take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def shown(self, *words: str, **variables: str) -> dict[str, tuple[str, ...]]:
        """What `kinfolk settings` says: value and source by name."""
        code, out, said = self._run("settings", *words, **variables)
        assert code == 0, said
        return {line.split()[0]: tuple(line.split()[1:]) for line in out.splitlines()}

    def refused(self, *words: str, **variables: str) -> str:
        """What a command says on standard error when it ends with 2."""
        code, out, said = self._run(*words, **variables)
        assert (code, out) == (2, "")
        return said

    def _run(self, *words: str, **variables: str) -> tuple[int, str, str]:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        code = run(list(words))
        assert not [name for name in os.environ if name.startswith("KINFOLK_")]
        return code, *self._capsys.readouterr()


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kin.toml", 'api_port = 1\nworkers = 2\nlog-level = "debug"\n'),
        ("kin.yaml", "api_port: 1\nworkers: 2\nlog-level: debug\n"),
    ],
)
def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(
    command_line: CommandLine, tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    settings = command_line.shown("--config", str(file), "--api-port", "3", KINFOLK_API_PORT="2", KINFOLK_WORKERS="5")
    assert settings["api_port"] == ("3", "flag")
    assert settings["workers"] == ("5", "KINFOLK_WORKERS")
    assert settings["log_level"] == ("debug", str(file))
    assert settings["pool_size"] == ("10", "default")
    assert settings["config"] == (str(file), "flag")
    assert list(settings) == every_setting()


def test_the_file_can_be_named_by_the_environment(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "kin.yml"
    file.write_text("insecure: true\n")
    assert command_line.shown(KINFOLK_CONFIG=str(file))["insecure"] == ("True", str(file))
    file.write_text("")
    assert command_line.shown(KINFOLK_CONFIG=str(file))["insecure"] == ("False", "default")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--api-prot", "1"], "--api-prot"),
        (["--api-port", "eighty"], "--api-port"),
        (["--api-port", "65536"], "--api-port"),
        (["--workers", "1.5"], "--workers"),
        (["--workers", "0"], "--workers"),
        (["--grace-seconds", "nan"], "--grace-seconds"),
        (["--grace-seconds", "inf"], "--grace-seconds"),
        (["--log-level", "loud"], "--log-level"),
        (["word"], "word"),
    ],
)
def test_a_wrong_flag_is_named(command_line: CommandLine, words: list[str], name: str) -> None:
    assert name in command_line.refused("settings", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["settings", "--workers", "1.5"],
        ["generate", "1.5"],
        ["generate", "2", "--seed", "1.5"],
        ["generate", "2", "--ties", "1.5"],
        ["messages", "parked", "--limit", "1.5"],
    ],
)
def test_half_a_number_is_not_rounded(command_line: CommandLine, words: list[str]) -> None:
    assert command_line.refused(*words).endswith('"1.5" is not a whole number.\n')


def test_a_wrong_variable_is_named(command_line: CommandLine) -> None:
    assert "KINFOLK_API_PORT" in command_line.refused("settings", KINFOLK_API_PORT="x")
    assert "KINFOLK_INSECURE" in command_line.refused("settings", KINFOLK_INSECURE="maybe")
    said = command_line.refused("generate", "1", KINFOLK_API_PROT="1")
    assert said == (
        "the environment sets KINFOLK_API_PROT, which is no setting of Kinfolk; did you mean KINFOLK_API_PORT?\n"
    )
    said = command_line.refused("generate", "1", KINFOLK_SEED="1")
    assert said == "the environment sets KINFOLK_SEED, which is no setting of Kinfolk\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", "api_prot = 1", r"a\.toml sets api_prot, which is no setting of Kinfolk; did you mean api_port\?"),
        ("a.toml", "xyzzy = 1", r"a\.toml sets xyzzy, which is no setting of Kinfolk$"),
        ("a.toml", 'api_port = "x"', "api_port"),
        ("a.toml", "api_port = 65536", "api_port"),
        ("a.toml", "workers = 1.5", "workers"),
        ("a.toml", "[api_port]\nvalue = 1", r"a\.toml sets api_port, which cannot be \{'value': 1\}"),
        ("a.yaml", "workers: [1, 2]", r"a\.yaml sets workers, which cannot be \[1, 2\]"),
        (
            "a.yaml",
            "pg_url: ['postgresql://u:secret@h/n']",
            r"sets pg_url, which cannot be \['postgresql://u:\*\*\*@h/n'",
        ),
        ("a.toml", 'config = "b.toml"', r"a\.toml sets config, which cannot be"),
        ("a.toml", "api_port =", r"a\.toml: Invalid value"),
        ("a.yaml", "api_port: [1", r"a\.yaml: while parsing a flow sequence"),
        ("a.yaml", "a: " + "[" * 5_000, r"a\.yaml: "),
        ("a.yaml", "- api_port", r"a\.yaml: settings are written as name and value"),
        ("a.toml", "\xff", r"a\.toml: 'utf-8' codec"),
        ("a.json", "{}", r"a\.json: the name must end in \.toml, \.yaml or \.yml"),
        ("a.toml", None, r"a\.toml: No such file or directory"),
    ],
)
def test_a_wrong_file_is_refused(
    command_line: CommandLine, tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    assert re.search(words, command_line.refused("settings", "--config", str(file)), re.MULTILINE)


@pytest.mark.parametrize(
    ("url", "as_shown"),
    [
        ("postgresql://anna:secret@here:5432/kin", "postgresql://anna:***@here:5432/kin"),
        ("postgresql://anna:s%40cr%2Fet@here/kin", "postgresql://anna:***@here/kin"),
        ("postgresql://anna:se#cr?et@here/kin", "postgresql://anna:***@here/kin"),
        ("postgresql://anna:se@cr/et@here/kin", "postgresql://anna:***@here/kin"),
        ("postgresql://:secret@[::1/kin", "postgresql://:***@[::1/kin"),
        ("postgresql://here/kin?user=anna&password=secret", "postgresql://here/kin?user=anna&password=***"),
        ("postgresql://here/kin?p%61ssword=secret#x", "postgresql://here/kin?p%61ssword=***#x"),
        (
            "postgresql://here/kin?sslmode=require&sslpassword=secret",
            "postgresql://here/kin?sslmode=require&sslpassword=***",
        ),
        ("postgresql://anna@here/kin", "postgresql://anna@here/kin"),
        ("anna:secret", "***"),
        ("", ""),
    ],
)
def test_a_password_in_a_url_is_masked(url: str, as_shown: str) -> None:
    assert masked("pg_url", url) == as_shown


@given(st.text(st.sampled_from("aZ09:/?#@%&=[] "), min_size=1))
def test_no_password_is_shown_whatever_it_is_made_of(password: str) -> None:
    assert masked("pg_url", f"postgresql://anna:{password}§@here/kin") == "postgresql://anna:***@here/kin"


def test_settings_show_no_password(command_line: CommandLine) -> None:
    settings = command_line.shown(
        "--redis-url", "redis://:secret@here/0", KINFOLK_PG_URL="postgresql://anna:secret@here/kin"
    )
    assert settings["pg_url"] == ("postgresql://anna:***@here/kin", "KINFOLK_PG_URL")
    assert settings["redis_url"] == ("redis://:***@here/0", "flag")


@pytest.mark.parametrize(
    "url",
    ["here/kin", "mysql://here/kin", "postgresql:here", "postgresql://u:secret@here:port/kin", "postgresql://[::1"],
)
def test_what_is_no_url_of_postgresql_is_refused_and_not_quoted(command_line: CommandLine, url: str) -> None:
    said = command_line.refused("db", "current", KINFOLK_PG_URL=url)
    assert said == "--pg-url must look like postgresql://user:password@host:port/name\n"


@pytest.mark.parametrize(
    "url", ["here:6379", "http://here", "redis:here", "redis://u:secret@here:port", "redis://[::1"]
)
@pytest.mark.parametrize("command", ["up", "api"])
def test_what_is_no_url_of_redis_is_refused_and_not_quoted(command_line: CommandLine, command: str, url: str) -> None:
    said = command_line.refused(command, KINFOLK_REDIS_URL=url)
    assert said == "--redis-url must look like redis://user:password@host:port/number\n"


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/kinfolk")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/anna")
    at_home = Path("/home/anna/.local/share/kinfolk")
    for named, folder in [("/data", Path("/data/kinfolk")), ("", at_home), ("data", at_home)]:
        monkeypatch.setenv("XDG_DATA_HOME", named)
        assert default_data_dir() == folder


def test_a_user_without_a_home_has_a_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container may run, or a service: a number that no list of users knows."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert default_data_dir() == Path("/var/lib/kinfolk")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/kinfolk")
