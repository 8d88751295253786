"""What the log writes, when, and that nobody waits for it."""

import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.postgres_places import REPOSITORY
from tests.running import Service

from kinfolk.kit import lines, log
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.settings import LogSettings

NO_SERVER = "postgresql://127.0.0.1:1/kin"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers, _, logging.raiseExceptions = before
    root.setLevel(before[1])
    structlog.reset_defaults()


class Pipe:
    """Stands in for standard error; what is written can be read, or left unread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read, self.write = os.pipe()
        monkeypatch.setattr(log, "STDERR", self.write)

    def fill(self) -> int:
        """Write until not a byte more is taken; returns how many were."""
        os.set_blocking(self.write, False)
        size = 0
        try:
            while True:
                size += os.write(self.write, b"x" * 4_096)
        except BlockingIOError:
            return size
        finally:
            os.set_blocking(self.write, True)

    def read(self, size: int = 1_000_000) -> bytes:
        os.set_blocking(self._read, False)
        try:
            return os.read(self._read, size)
        except BlockingIOError:
            return b""

    def lines(self) -> list[str]:
        return self.read().decode().splitlines()

    def close(self) -> None:
        os.close(self._read)
        os.close(self.write)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(monkeypatch)
    yield pipe
    pipe.close()


def facts_of(line: str) -> dict[str, str]:
    """The pairs of a logfmt line, each value unquoted."""
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)(?: |$)', line)
    return {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}


def a_failure() -> Exception:
    try:
        raise ValueError("bad\nluck")
    except ValueError as error:
        return error


def write_everything() -> None:
    log.write_line({"event": "work", "path": "/a b", "ms": 1.234_5, "none": None, "is_retry": True, "count": 3})
    log.write_line({"event": "failed"}, logging.ERROR, a_failure())
    logging.getLogger("some.library").warning("said %s", "this")
    logging.getLogger("some.library").debug("too low")
    structlog.get_logger("ours").info("told", citizens=3)
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("some.library").exception("it broke")
        structlog.get_logger("ours").exception("ours broke")


@pytest.mark.parametrize("in_thread", [True, False])
def test_logfmt(pipe: Pipe, in_thread: bool) -> None:
    started = log.start(LogSettings(log_format="logfmt"), in_thread=in_thread)
    write_everything()
    if started is not None:
        started.stop()
    work, failed, library, ours, broke, ours_broke = map(facts_of, pipe.lines())
    moment = work.pop("timestamp")
    assert MOMENT.fullmatch(moment)
    assert work == {"level": "info", "event": "work", "path": "/a b", "ms": "1.23", "is_retry": "true", "count": "3"}
    assert (failed["level"], failed["event"]) == ("error", "failed")
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: bad\nluck")
    assert (library["level"], library["event"]) == ("warning", "said this")
    assert (ours["level"], ours["event"], ours["citizens"]) == ("info", "told", "3")
    assert "KeyError: 'lost'" in broke["exception"]
    assert "KeyError: 'lost'" in ours_broke["exception"]


def test_json(pipe: Pipe) -> None:
    started = log.start(LogSettings(log_format="json"))
    assert started is not None
    write_everything()
    log.write_line({"event": "odd", "path": "half \ud800", "object": Path("x"), "deep": {"a": [1]}})
    started.stop()
    lines = [json.loads(line) for line in pipe.lines()]
    assert [line["event"] for line in lines] == ["work", "failed", "said this", "told", "it broke", "ours broke", "odd"]
    assert lines[0]["ms"] == 1.2345
    assert lines[0]["is_retry"] is True
    assert "ValueError: bad\nluck" in lines[1]["exception"]
    assert lines[6]["path"] == "half \ud800"
    assert lines[6]["deep"] == {"a": [1]}


def test_colour(pipe: Pipe) -> None:
    started = log.start(LogSettings(log_format="color"))
    assert started is not None
    write_everything()
    log.write_line({"event": "request", "path": "/\x1b[2J"})
    started.stop()
    said = pipe.read().decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert plain != said
    assert "\x1b" not in plain
    assert "path=/\\x1b[2J" in plain
    assert "ms=1.23" in plain
    assert "ValueError: bad\nluck" in plain  # for eyes, so on several lines


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("kin", logging.INFO, "", 0, "told", None, None)
    for is_terminal in (True, False):
        monkeypatch.setattr("sys.stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)  # noqa: B023  # called at once
        assert ("\x1b[" in lines.Lines().format(record)) == is_terminal


@given(st.dictionaries(st.sampled_from(["path", "event", "id"]), st.text(), min_size=1))
def test_logfmt_is_one_line_that_can_be_read_back(event: dict[str, str]) -> None:
    line = lines.logfmt(event)
    assert line.isascii() or line.encode("utf-8", "surrogatepass")
    assert len(re.split(r"[\x00-\x1f\x7f-\x9f]", line)) == 1
    assert facts_of(line) == event


@pytest.mark.parametrize(
    ("value", "written"),
    [("", '""'), ("a=b", '"a=b"'), ("a\\b", r'"a\\b"'), ("\x1b[2J", r'"\u001b[2J"'), ("\x7f\x9b", r'"\u007f\u009b"'),
     (Path("a b"), '"a b"'), (Path("ab"), "ab"), (False, "false"), (1e-9, "0.00")],
)  # fmt: skip
def test_logfmt_of_a_value(value: Any, written: str) -> None:
    assert lines.logfmt({"value": value}) == f"value={written}"


def test_the_level(pipe: Pipe) -> None:
    started = log.start(LogSettings(log_format="logfmt", log_level="warning"))
    assert started is not None
    write_everything()
    started.stop()
    assert [facts_of(line)["event"] for line in pipe.lines()] == ["failed", "said this", "it broke", "ours broke"]


def test_the_moment_is_that_of_the_event(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PAUSE_SECONDS", 0.5)
    started = log.start(LogSettings(log_format="logfmt"))
    assert started is not None
    before = datetime.now(UTC)
    log.write_line({"event": "first"})
    after = datetime.now(UTC)
    time.sleep(0.1)
    logging.getLogger().warning("second")
    started.stop()
    first, second = (datetime.fromisoformat(facts_of(line)["timestamp"]) for line in pipe.lines())
    assert before.replace(microsecond=before.microsecond // 1_000 * 1_000) <= first <= after
    assert (second - first).total_seconds() >= 0.1


def test_every_line_of_a_burst_is_written_at_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("wb") as file:
        monkeypatch.setattr(log, "STDERR", file.fileno())
        started = log.start(LogSettings(log_format="logfmt"))
        assert started is not None
        for number in range(5_000):
            log.write_line({"event": "burst", "number": number})
        started.stop()
    numbers = [int(facts_of(line)["number"]) for line in (tmp_path / "log").read_text().splitlines()]
    assert numbers == list(range(5_000))


@pytest.mark.parametrize(("target", "most_bytes"), [("pipe", 4_096), ("file", 65_536)])
def test_pieces_are_whole_lines_that_are_taken_at_one_stroke(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, most_bytes: int
) -> None:
    pieces: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _fd, piece: pieces.append(piece) or len(piece))
    with (tmp_path / "log").open("wb") as file:
        monkeypatch.setattr(log, "STDERR", file.fileno() if target == "file" else log.STDERR)
        started = log.start(LogSettings(log_format="logfmt"))
        assert started is not None
        for number in range(800):
            log.write_line({"event": "x" * (number % 7) * 90})
        log.write_line({"event": "y" * 100_000})
        started.stop()
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert all(len(piece) <= most_bytes or piece.count(b"\n") == 1 for piece in pieces)
    assert b"".join(pieces).count(b"\n") == 801
    assert max(len(piece) for piece in pieces if piece.count(b"\n") > 1) > 0.8 * most_bytes


def test_a_reader_who_does_not_read_blocks_nobody_and_learns_what_was_lost(pipe: Pipe) -> None:
    handler = log._Stream()
    handler.setFormatter(lines.Lines("logfmt"))
    filled = pipe.fill()
    writer = log.Log([handler], most_waiting=10)
    for number in range(100):
        writer.put(lines.Line(logging.INFO, {"event": "work", "number": number}))
        time.sleep(0.002)
    assert 70 <= writer.dropped <= 90
    assert len(pipe.read(filled)) == filled
    writer.stop()
    *written, last = map(facts_of, pipe.lines())
    assert last["event"] == "log_lines_dropped"
    assert int(last["lines"]) == writer.dropped == 100 - len(written)


def test_a_process_without_a_thread_drops_rather_than_waits(pipe: Pipe) -> None:
    log.start(LogSettings(log_format="logfmt"), in_thread=False)
    filled = pipe.fill()
    log.write_line({"event": "lost"})
    assert len(pipe.read(filled)) == filled
    log.write_line({"event": "seen"})
    assert [facts_of(line)["event"] for line in pipe.lines()] == ["seen"]


def test_a_reader_who_went_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(log, "STDERR", write)
    started = log.start(LogSettings(log_format="logfmt"))
    assert started is not None
    log.write_line({"event": "told to nobody"})
    started.stop()
    assert not started._thread.is_alive()
    os.close(write)


CONFIG = """
version: 1
formatters:
  plain: {format: "%(levelname)s %(message)s"}
  json: {"()": kinfolk.kit.lines.Lines, form: json}
handlers:
  plain: {class: logging.FileHandler, filename: PLACE/plain.log, formatter: plain, level: ERROR}
  json: {class: logging.FileHandler, filename: PLACE/json.log, formatter: json}
root: {level: INFO, handlers: [plain, json]}
"""


def test_a_configuration_of_ones_own(tmp_path: Path) -> None:
    old = logging.getLogger("was.there.before")
    config = tmp_path / "log.yaml"
    config.write_text(CONFIG.replace("PLACE", str(tmp_path)))
    started = log.start(LogSettings(log_config=config))
    assert started is not None
    write_everything()
    old.error("not disabled")
    started.stop()
    plain = (tmp_path / "plain.log").read_text()
    assert plain.startswith("ERROR event=failed\nTraceback")
    assert "ERROR not disabled\n" in plain
    assert "said this" not in plain
    events = [json.loads(line)["event"] for line in (tmp_path / "json.log").read_text().splitlines()]
    assert events == ["work", "failed", "said this", "told", "it broke", "ours broke", "not disabled"]
    for handler in started._handlers:
        handler.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("version: 2", "Unsupported version"),
        ("- 1", "unsupported operand"),
        ("a: [", "while parsing"),
        ("version: 1\nhandlers: {a: {class: no.Such}}", "Unable to configure handler 'a': .*no"),
        ("version: 1\nroot: {handlers: [b]}", "Unable to configure root logger"),
        (None, "No such file"),
    ],
)
def test_a_broken_configuration_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    config = tmp_path / "log.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(WrongSetting, match=rf"--log-config {config}: .*{words}"):
        log.start(LogSettings(log_config=config))


def test_facts_are_those_of_the_work_under_way() -> None:
    log.note(lost=1)
    log.spent(1)
    with log.facts() as outer:
        log.note(a=1)
        with log.facts() as inner:
            log.note(b=2)
            log.spent(0.001)
            log.spent(0.002)
        log.note(a=3)
    assert outer == {"a": 3}
    assert inner == {"b": 2, "db_ms": pytest.approx(3)}


def test_the_line_of_a_request(pg_url: str) -> None:
    with Service("api", "--pg-url", pg_url) as service:
        httpx.get(f"{service.url}/imports/{2**62}/citizens", headers={"X-Request-ID": "mine"})
        with socket.create_connection(("127.0.0.1", service.port)) as raw:
            raw.sendall(b"GET /%0a%1b[2Jlevel=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while raw.recv(1_000):
                pass
        httpx.get(f"{service.url}/health")
        service.end()
        first, second = map(facts_of, service.lines("event=request"))
    assert {key: first[key] for key in ("level", "id", "method", "path", "status")} == {
        "level": "info", "id": "mine", "method": "GET", "path": f"/imports/{2**62}/citizens", "status": "404"
    }  # fmt: skip
    assert float(first["ms"]) >= float(first["db_ms"]) > 0
    assert int(first["bytes"]) > 0
    assert second["path"] == "/*", "words of whoever asks at no address of ours are not written down"


def test_requests_go_on_while_nobody_reads_the_log() -> None:
    command = [sys.executable, "-m", "kinfolk", "api", "--api-port", "0", "--pg-url", NO_SERVER]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, cwd=REPOSITORY) as process:
        assert process.stderr is not None
        ready = process.stderr.readline().decode()
        port = re.search(r"port=(\d+)", ready)
        assert port, ready
        path = f"http://127.0.0.1:{port[1]}/{'x' * 200}"
        with httpx.Client(timeout=60) as client:
            for _ in range(600):  # some 200 kB, three times what the pipe holds
                assert client.get(path).status_code == 404
        (worker,) = psutil.Process(process.pid).children()
        os.kill(worker.pid, signal.SIGKILL)  # its parent has something to say, too, and must not wait either
        with httpx.Client(timeout=60) as client:
            assert client.get(path).status_code == 404
        process.terminate()
        assert process.wait(60) == 0


def test_a_process_without_standard_error_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    monkeypatch.setattr(log, "STDERR", write)
    started = log.start(LogSettings(log_format="logfmt"))
    assert started is not None
    log.write_line({"event": "lost"})
    started.stop()
    assert started.dropped == 0
