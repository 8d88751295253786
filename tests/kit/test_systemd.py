"""What systemd hands over, what it is told, and how lines look in its journal."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.postgres_places import REPOSITORY, eventually
from tests.running import SECONDS_TO_END, SECONDS_TO_START, Service

from kinfolk.kit import lines, systemd
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.listening import listening
from kinfolk.kit.settings import WebSettings

NO_SERVER = "postgresql://127.0.0.1:1/kin"
API = [sys.executable, "-m", "kinfolk", "api", "--pg-url", NO_SERVER]


@pytest.fixture(params=["tcp", "unix"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "unix":
        return str(tmp_path / "api.sock")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:{1}".format(*probe.getsockname())


def test_the_api_answers_on_the_socket_that_systemd_listens_on(place: str, tmp_path: Path) -> None:
    """systemd's own tool listens, and starts the role when somebody connects, who is answered."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    written = tmp_path / "log"
    words = [f"--setenv={name}" for name in environment]
    is_path = place.startswith("/")
    asked = ["--auth", "off"] if is_path else []
    with written.open("wb") as end:
        process = subprocess.Popen(
            ["systemd-socket-activate", "--listen", place, *words, *API, *asked],
            stdin=subprocess.DEVNULL, stdout=end, stderr=end, cwd=REPOSITORY, env=environment,
        )  # fmt: skip
    try:
        assert eventually(lambda: "Listening on" in written.read_text(), SECONDS_TO_START)
        transport = httpx.HTTPTransport(uds=place if is_path else None)
        with httpx.Client(transport=transport, timeout=SECONDS_TO_START) as client:
            answer = client.get("http://kinfolk.example.org/health" if is_path else f"http://{place}/health")
        assert answer.json() == {"status": "alive"}
        said = "uds={}" if is_path else "address={} port={}"
        line = f"ready role=api {said.format(*place.split(':'))} pid={process.pid}"
        assert eventually(lambda: line in written.read_text(), SECONDS_TO_START)
    finally:
        process.terminate()
        assert process.wait(SECONDS_TO_END) == 0


@pytest.fixture
def handing_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    return monkeypatch


def hand_over(handing_over: pytest.MonkeyPatch, descriptor: int) -> None:
    handing_over.setattr(systemd, "FIRST_HANDED_OVER", os.dup(descriptor))


def test_a_socket_is_taken_once_and_stays_ours(handing_over: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        hand_over(handing_over, server.fileno())
        with listening(WebSettings()) as bound:
            assert bound.getsockname() == server.getsockname()
            assert not bound.get_inheritable()
            assert systemd.handed_over() is None


def test_what_another_process_was_handed_is_not_taken(handing_over: pytest.MonkeyPatch) -> None:
    handing_over.setenv("LISTEN_PID", "1")
    assert systemd.handed_over() is None
    assert "LISTEN_FDS" not in os.environ


def test_one_socket_is_served_and_no_more(handing_over: pytest.MonkeyPatch) -> None:
    handing_over.setenv("LISTEN_FDS", "2")
    with pytest.raises(WrongSetting, match="hands over 2 sockets"):
        systemd.handed_over()


def test_a_socket_that_does_not_listen_is_refused(handing_over: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:
        hand_over(handing_over, deaf.fileno())
        with pytest.raises(WrongSetting, match="does not listen"):
            systemd.handed_over()


def test_what_is_no_socket_is_refused(handing_over: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        hand_over(handing_over, file.fileno())
        with pytest.raises(WrongSetting, match="no socket"):
            systemd.handed_over()
        os.close(systemd.FIRST_HANDED_OVER)


def test_a_socket_beyond_loopback_needs_a_word_as_an_address_does(handing_over: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        hand_over(handing_over, server.fileno())
        with (
            pytest.raises(WrongSetting, match=r"0\.0\.0\.0 can be reached from other machines"),
            listening(WebSettings(auth="off")),
        ):
            pytest.fail("it was served")
        for settings in (WebSettings(auth="off", insecure=True), WebSettings(auth="required")):
            handing_over.setenv("LISTEN_PID", str(os.getpid()))
            handing_over.setenv("LISTEN_FDS", "1")
            hand_over(handing_over, server.fileno())
            with listening(settings) as bound:
                assert bound.getsockname() == server.getsockname()


@pytest.mark.parametrize("insecure", [False, True])
def test_where_others_can_ask_it_is_said_whether_they_are_asked(
    handing_over: pytest.MonkeyPatch, tmp_path: Path, insecure: bool
) -> None:
    anywhere, by_path = socket.create_server(("0.0.0.0", 0)), socket.socket(socket.AF_UNIX)
    with anywhere, by_path:
        by_path.bind(str(tmp_path / "kin.sock"))
        by_path.listen()
        for server in (anywhere, by_path):
            hand_over(handing_over, server.fileno())
            with (
                pytest.raises(WrongSetting, match="say --auth required, or --auth off"),
                listening(WebSettings(insecure=insecure)),
            ):
                pytest.fail("it was served")
            handing_over.setenv("LISTEN_PID", str(os.getpid()))
            handing_over.setenv("LISTEN_FDS", "1")
        hand_over(handing_over, by_path.fileno())
        with listening(WebSettings(auth="off")) as bound:
            assert bound.getsockname() == by_path.getsockname()


class Listener:
    """Stands for systemd where it hears of its services."""

    def __init__(self, address: str) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(address)
        self._line.settimeout(SECONDS_TO_START)

    def hear(self) -> str:
        return self._line.recv(1_000).decode()

    def hear_until(self, state: str) -> list[str]:
        heard = [self.hear()]
        while heard[-1] != state:
            heard.append(self.hear())
        return heard

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_error: object) -> None:
        self._line.close()


@pytest.mark.parametrize("role", ["api", "schedule"])
def test_a_role_says_when_it_is_ready_that_it_lives_and_that_it_ends(role: str, tmp_path: Path, pg_url: str) -> None:
    address = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000", "KINFOLK_PG_URL": pg_url}
    with Listener(address) as listener, Service(role, environment=environment) as service:
        assert listener.hear_until("READY=1").count("READY=1") == 1
        assert [listener.hear() for _ in range(3)] == ["WATCHDOG=1"] * 3
        service.process.terminate()
        assert set(listener.hear_until("STOPPING=1")) <= {"WATCHDOG=1", "STOPPING=1"}
        assert service.end() == 0


def test_an_abstract_address_is_told_and_an_absent_listener_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"kinfolk-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with Listener(f"\0{name}") as listener:
        systemd.notify("READY=1")
        assert listener.hear() == "READY=1"
    systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("30000000", "", 15.0), ("30000000", "1", None), ("0", "", None), ("soon", "", None), ("", "", None)],
)
def test_a_sign_of_life_is_due_twice_in_the_time_allowed(
    microseconds: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert systemd.pulse_seconds() == seconds


def test_lines_for_the_journal_have_a_priority_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"event": "request", "status": 500}
    with (tmp_path / "journal").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(lines, "STDERR", stream.fileno())
        assert lines.Lines().rendered(0, "info", event).startswith("timestamp=1970-01-01T")
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert lines.Lines().rendered(0, "error", event) == "<3>level=error event=request status=500"
        record = logging.LogRecord("other", logging.CRITICAL, "", 0, "two words", None, None)
        assert lines.Lines().format(record) == '<2>level=critical event="two words"'
        assert lines.Lines("logfmt").rendered(0, "info", event).startswith("timestamp=")


def test_what_was_closed_is_no_journal() -> None:
    assert not systemd.is_journal(10_000)
