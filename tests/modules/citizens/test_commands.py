"""`kinfolk generate` and `kinfolk import` as their user meets them, against a real server on loopback."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.scripted_service import (
    Answer,
    HangUp,
    Stall,
    accepted,
    free_port,
    problem,
    scripted_service,
)

from kinfolk.kit.client import connect
from kinfolk.kit.ending import Ended
from kinfolk.kit.settings import ClientSettings
from kinfolk.modules.citizens import commands, example_register
from kinfolk.modules.citizens.commands import Register, generate, import_register, sent_until_answered

CLI = """
import sys
from cyclopts import App
app = App(name="kinfolk", result_action="return_int_as_exit_code_else_zero")
app.command("kinfolk.modules.citizens.commands:import_register", name="import")
app.command("kinfolk.modules.citizens.commands:generate")
sys.exit(app())
"""


def kinfolk(*words: str, **how: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words], stdout=subprocess.PIPE, **({"stderr": subprocess.PIPE} | how)
    )


def finished(process: subprocess.Popen[bytes], given: bytes | None = None) -> tuple[int, str, str]:
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out.decode(), (err or b"").decode()


@pytest.fixture
def register(tmp_path: Path) -> Path:
    path = tmp_path / "register.json"
    path.write_bytes(b"".join(example_register.generate(300, 1)))
    return path


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PAUSES_SECONDS", (0.01, 0.01, 0.01))


def test_generate_writes_a_register() -> None:
    code, out, err = finished(kinfolk("generate", "30", "--seed", "4", "--ties", "9"))
    assert (code, err) == (0, "")
    assert out.encode() == b"".join(example_register.generate(30, 4, 9))


def test_generate_tells_the_seed_it_took(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert generate(20) == 0
    out, err = capfdbinary.readouterr()
    seed = err.split()[1].decode()
    assert err == f"--seed {seed} gives this register again\n".encode()
    assert generate(20, seed=int(seed)) == 0
    assert capfdbinary.readouterr() == (out, b"")


@pytest.mark.parametrize(("count", "ties"), [(10_001, None), (-1, None), (2, 4)])
def test_generate_refuses_what_cannot_be(capsys: pytest.CaptureFixture[str], count: int, ties: int | None) -> None:
    assert generate(count, ties=ties) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert " have 0 to 3 ties, not 4" in err or " has 0 to 10000 citizens, not " in err


def test_generate_ends_quietly_when_the_reader_has_seen_enough() -> None:
    process = kinfolk("generate", "10000", "--seed", "1")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10) == b'{"citizens'
    process.stdout.close()
    assert process.wait(60) == 0
    with process.stderr:
        assert process.stderr.read() == b""


def test_import_prints_the_number_last(register: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service(accepted(42)) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split()[-1] == "42"
    size = len(register.read_bytes())
    assert err.splitlines() == [
        f"sending register.json ({size:,} bytes) to {service.url}",
        f"its answers: {service.url}/?import=42",
    ]
    (heard,) = service.heard
    assert heard.path == "/api/v1/imports"
    assert heard.body == register.read_bytes()
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["content-length"] == str(size)
    assert len(heard.headers["idempotency-key"]) == 36
    assert "content-encoding" not in heard.headers


def test_import_shows_the_token(register: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with scripted_service(accepted(1)) as service:
        settings = ClientSettings(api_url=service.url, token_file=tmp_path / "token")
        assert import_register(str(register), client=settings) == 0
    assert service.heard[0].headers["authorization"] == "Bearer s3cret"


def test_import_sends_gzip_as_it_is(register: Path, tmp_path: Path) -> None:
    packed = tmp_path / "register.json.gz"
    packed.write_bytes(gzip.compress(register.read_bytes()))
    with scripted_service(accepted(1)) as service:
        assert import_register(str(packed), client=ClientSettings(api_url=service.url)) == 0
    assert service.heard[0].headers["content-encoding"] == "gzip"
    assert gzip.decompress(service.heard[0].body) == register.read_bytes()


def test_import_reads_standard_input(register: Path) -> None:
    with scripted_service(accepted(5)) as service:
        process = kinfolk("import", "-", "--api-url", service.url, stdin=subprocess.PIPE)
        code, out, err = finished(process, register.read_bytes())
    assert (code, out.split()[-1]) == (0, "5")
    assert err.startswith(f"sending standard input to {service.url}\n")
    assert service.heard[0].headers["transfer-encoding"] == "chunked"
    assert service.heard[0].body == register.read_bytes()


def test_import_lists_every_bad_place(register: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"pointer": f"/citizens/{index}/town", "detail": "has no letter or digit"} for index in range(1_000)]
    refusal = problem(400, title="The document breaks the rules.", errors=errors, error_count=1_003)
    with scripted_service(refusal) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1:] == [
        "The document breaks the rules. (400)",
        *(f"  /citizens/{index}/town: has no letter or digit" for index in range(1_000)),
        "  and 3 more",
    ]


@pytest.mark.parametrize("status", [401, 413, 422, 503])
def test_import_shows_a_refusal(register: Path, capsys: pytest.CaptureFixture[str], status: int) -> None:
    with scripted_service(problem(status, title="Not so.", detail="Because of this.")) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1:] == [f"Not so. ({status})", "Because of this."]


@pytest.mark.parametrize(
    "garbage",
    [
        Answer(201, b"<html>"),
        Answer(201, b'{"data":{"import_id":"1"}}'),
        Answer(201, b'{"data":{"import_id":"\xff"}}'),
        Answer(200, b'{"data":{"import_id":1}}'),
        Answer(502, b"<html>Bad Gateway</html>", "text/html"),
    ],
)
def test_import_is_not_taken_in_by_another_service(
    register: Path, capsys: pytest.CaptureFixture[str], garbage: Answer
) -> None:
    with scripted_service(garbage) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "and not as Kinfolk does; is it Kinfolk?" in err


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize(
    "losses", [[HangUp(1_000)], [HangUp()], [HangUp(0), HangUp(), HangUp(5)]], ids=["midway", "unanswered", "thrice"]
)
def test_import_tries_again_under_the_same_key(
    register: Path, capsys: pytest.CaptureFixture[str], losses: Sequence[HangUp]
) -> None:
    with scripted_service(*losses, accepted(8)) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 0
    out, err = capsys.readouterr()
    assert out == "import 8\n"
    assert err.count("the connection was lost; trying again") == len(losses)
    assert service.heard[-1].body == register.read_bytes()
    assert len({heard.headers["idempotency-key"] for heard in service.heard}) == 1


@pytest.mark.usefixtures("_short_pauses")
def test_each_import_has_a_key_of_its_own(register: Path) -> None:
    with scripted_service(accepted(1), accepted(2)) as service:
        import_register(str(register), client=ClientSettings(api_url=service.url))
        import_register(str(register), client=ClientSettings(api_url=service.url))
    assert len({heard.headers["idempotency-key"] for heard in service.heard}) == 2


@pytest.mark.usefixtures("_short_pauses")
def test_import_gives_up_in_the_end(register: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service(*[HangUp()] * 4) as service:
        assert import_register(str(register), client=ClientSettings(api_url=service.url)) == 3
    assert len(service.heard) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        f"the connection to {service.url} was lost; whether the register arrived is not known"
    )


def test_what_cannot_be_read_twice_is_sent_once(register: Path) -> None:
    with scripted_service(HangUp(), accepted(1)) as service:
        process = kinfolk("import", "-", "--api-url", service.url, stdin=subprocess.PIPE)
        code, out, err = finished(process, register.read_bytes())
    assert (code, out) == (3, "")
    assert len(service.heard) == 1
    assert "whether the register arrived is not known" in err


def test_import_says_that_no_service_answers(register: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert import_register(str(register), client=ClientSettings(api_url=url)) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert f"no service answers at {url}\n" in err
    assert "./run" in err


def test_a_service_that_went_away_is_lost_not_missing(
    register: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PAUSES_SECONDS", (1.0, 0.01))
    codes = []
    with scripted_service(HangUp()) as service:
        sending = Thread(
            target=lambda: codes.append(import_register(str(register), client=ClientSettings(api_url=service.url)))
        )
        sending.start()
        assert service.has_heard.wait(60)
    # The server is gone before the first pause is over.
    sending.join(60)
    out, err = capsys.readouterr()
    assert (codes, out) == ([3], "")
    assert err.count("trying again") == 2
    assert "was lost; whether the register arrived is not known" in err


def test_import_names_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_register(str(tmp_path / "none.json")) == 2
    assert import_register(str(tmp_path)) == 2
    missing, folder = capsys.readouterr().err.splitlines()
    assert missing.endswith("none.json cannot be read: No such file or directory")
    assert folder.endswith("cannot be read: Is a directory")


def test_import_does_not_take_an_option_for_a_file() -> None:
    code, out, err = finished(kinfolk("import", "--no-such"))
    assert (code, out) == (2, "")
    assert err == "there is no option --no-such; a file of this name is ./--no-such\n"


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_a_register_that_changes_on_its_way_is_not_imported(register: Path, change: str) -> None:
    with register.open("rb") as source:
        sending = Register(str(register), source)
        register.write_bytes(b"{}" if change == "shorter" else register.read_bytes() * 2)
        with (
            scripted_service(accepted(1)) as service,
            connect(service.url, None) as client,
            pytest.raises(Ended, match=r"register\.json changed while it was being sent") as end,
        ):
            sent_until_answered(client, sending, lambda _total: None)
    assert end.value.exit_code == 1
    assert service.heard == []


@pytest.mark.parametrize("status", [201, 400])
def test_a_terminal_sees_a_bar(register: Path, status: int) -> None:
    terminal, theirs = pty.openpty()
    answer = accepted(3) if status == 201 else problem(400, title="No.", errors=[], error_count=0)
    with scripted_service(answer) as service, os.fdopen(terminal, "rb", buffering=0) as screen:
        process = kinfolk(
            "import", str(register), "--api-url", service.url, stderr=theirs, env={**os.environ, "TERM": "xterm"}
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := screen.read(4096):
                shown += piece
        except OSError:  # Linux says EIO when the other end is closed
            pass
        code, out, _ = finished(process)
    assert code == (0 if status == 201 else 1)
    assert out == ("import 3\n" if status == 201 else "")
    assert "━" in shown.decode()
    assert b"sent; the service checks it" in shown
    assert (b"No. (400)" in shown) == (status == 400)


def test_ctrl_c_ends_without_a_traceback(register: Path) -> None:
    with scripted_service(Stall()) as service:
        process = kinfolk("import", str(register), "--api-url", service.url)
        assert service.has_heard.wait(60)
        process.send_signal(signal.SIGINT)
        code, out, err = finished(process)
    assert (code, out) == (130, "")
    assert err.splitlines()[1:] == ["interrupted"]


def test_help_says_what_the_words_mean() -> None:
    _, words, _ = finished(kinfolk("import", "--help"))
    assert "standard input" in words
    assert "http://127.0.0.1:8080" in words
    assert json.dumps("--token-file")[1:-1] in words
    _, words, _ = finished(kinfolk("generate", "--help"))
    assert "--seed" in words
    assert "--ties" in words
