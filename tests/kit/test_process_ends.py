"""How a role ends: asked once, asked twice, killed, or because a child cannot start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import REPOSITORY, eventually, is_alive, open_directory
from tests.running import Service

NO_SERVER = "postgresql://127.0.0.1:1/kin"  # /health asks no database


class SlowPost:
    """A POST of one citizen whose body is half sent."""

    def __init__(self, service: Service) -> None:
        self._body = json.dumps({"citizens": [a_citizen(1)]}).encode()
        head = f"POST /imports HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(self._body)}\r\n\r\n".encode()
        self.connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        self.connection.sendall(head + self._body[:20])
        time.sleep(0.3)  # until it is read

    def finish(self) -> bytes:
        """Send the rest; returns the answer."""
        self.connection.sendall(self._body[20:])
        return self.rest()

    def rest(self) -> bytes:
        with closing(self.connection):
            pieces = []
            try:
                while piece := self.connection.recv(65_536):
                    pieces.append(piece)
            except ConnectionResetError:
                pass
            return b"".join(pieces)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_finishes_what_is_under_way(pg_url: str) -> None:
    with Service("api", "--pg-url", pg_url) as service:
        port = service.port
        idle = socket.create_connection(("127.0.0.1", port))
        post = SlowPost(service)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):  # one wish, told twice at once
            service.process.send_signal(number)
        assert eventually(lambda: is_refused(port))
        assert service.process.poll() is None
        assert post.finish().startswith(b"HTTP/1.1 201 ")
        assert service.end() == 0
        service.says("event=request")
        service.never_said("killed")
        idle.close()


def test_what_hangs_past_the_grace_is_cut_off(pg_url: str) -> None:
    with Service("api", "--pg-url", pg_url, "--grace-seconds", "0.5") as service:
        post = SlowPost(service)
        assert service.end() == 0
        assert b"201" not in post.rest()


def test_a_worker_that_does_not_hear_is_killed_after_the_grace() -> None:
    with Service("api", "--pg-url", NO_SERVER, "--grace-seconds", "0.2") as service:
        (worker,) = service.workers
        os.kill(worker, signal.SIGSTOP)
        assert service.end() == 0
        assert not is_alive(worker)
        service.says('level=warning event=killed roles="api 1"')


def test_a_second_signal_ends_at_once(pg_url: str) -> None:
    with Service("api", "--pg-url", pg_url, "--grace-seconds", "600") as service:
        workers = service.workers
        post = SlowPost(service)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        assert service.end(signal.SIGINT) == 130
        assert not any(map(is_alive, workers))
        assert post.rest() == b""


def test_ctrl_c_reaches_the_whole_group_and_is_graceful(pg_url: str) -> None:
    with Service("api", "--pg-url", pg_url, "--workers", "2", start_new_session=True) as service:
        post = SlowPost(service)
        os.killpg(service.process.pid, signal.SIGINT)
        assert eventually(lambda: is_refused(service.port))
        assert post.finish().startswith(b"HTTP/1.1 201 ")
        assert service.process.wait(60) == 0


def test_a_killed_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    with Service("api", "--pg-url", NO_SERVER, "--workers", "2", environment={"TMPDIR": str(tmp_path)}) as service:
        workers = service.workers
        assert len(workers) == 2
        service.process.kill()
        service.process.wait()
        assert eventually(lambda: not any(map(is_alive, workers)))


SUPERVISED = """
import os, pathlib, signal, sys, time
from kinfolk.kit import log, process
from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.ending import Missing, WrongSetting
from kinfolk.kit.settings import LogSettings

logs = LogSettings(log_format="logfmt")
log.start(logs, in_thread=False)

def fails(ready):
    raise ValueError("no luck")

def misses(ready):
    raise Missing("no queue")

def refuses(ready):
    raise WrongSetting("no such store")

def is_killed(ready):
    os.kill(os.getpid(), signal.SIGKILL)

def returns(ready):
    ready()

def settles(ready):
    process.SETTLED_SECONDS = 0
    ready()
    signal.pause()

def is_late(ready):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    os.kill(os.getppid(), signal.SIGTERM)
    while not told:
        time.sleep(0.01)
    ready()
    time.sleep(0.5)

def announce():
    print("announced", flush=True)
    if len(sys.argv) > 2:
        os.kill(os.getppid() if sys.argv[2] == "parent" else os.getpid(), signal.SIGTERM)

if sys.argv[1] == "lost_log":
    logs = LogSettings(log_config=pathlib.Path("no-such.yaml"))
    lost_log = settles

children = [process.Child("good", settles), process.Child("bad", globals()[sys.argv[1]])]
if sys.argv[1] == "is_late":
    del children[0]
sys.exit(process.Supervisor("kin", children, logs, 1).run(announce, lambda: print("ending", flush=True)))
"""


def supervised(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SUPERVISED, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
    )


@pytest.mark.parametrize(
    ("child", "code", "line"),
    [
        ("fails", 1, r"level=error event=died role=bad exception=.*ValueError: no luck"),
        ("is_killed", 1, r"level=warning event=process_died role=bad pid=\d+ code=-9 restart_seconds=0.80"),
        ("misses", 3, r'level=error event=cannot_start role=bad reason="no queue"'),
        ("lost_log", 2, r'level=error event=cannot_start role=bad reason="--log-config no-such.yaml: .*No such file'),
        ("refuses", 2, r'level=error event=cannot_start role=bad reason="no such store"'),
    ],
)
def test_a_child_that_cannot_start_ends_it_all_and_says_why(child: str, code: int, line: str) -> None:
    done = supervised(child)
    assert done.returncode == code
    assert done.stdout == "ending\n"
    assert re.search(line, done.stderr)
    gave_up = re.findall(r"level=error event=gave_up role=bad pid=\d+ code=\S+$", done.stderr, re.MULTILINE)
    assert len(gave_up) == (code == 1)
    restarts = re.findall(r"restart_seconds=(\S+)", done.stderr)
    assert restarts == (["0.20", "0.40", "0.80"] if code == 1 else [])


def test_a_child_that_ends_later_is_started_again() -> None:
    done = supervised("returns", "self")
    assert (done.returncode, done.stdout) == (0, "announced\nending\n")


def test_who_is_told_to_end_before_all_serve_never_says_ready() -> None:
    """What it would say is where it listens, and there it listens no more."""
    done = supervised("is_late")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ending\n", "")


@pytest.mark.parametrize("is_killed", [False, True])
def test_up_on_an_embedded_server(is_killed: bool) -> None:
    with open_directory() as folder:
        data_dir = folder / "data"
        where = {"KINFOLK_DATA_DIR": str(data_dir), "TMPDIR": str(folder)}
        with Service("up", environment=where) as service:
            service.says("Ctrl-C ends it.")
            for line in [
                f"page           {service.url}/$",
                f"API            {service.url}/docs$",
                str(data_dir / "postgres.log"),
            ]:
                service.says(line)
            assert httpx.get(f"{service.url}/ready").json()["migrations"] == "at head"
            citizens = {"citizens": [a_citizen(1)]}
            location = httpx.post(f"{service.url}/imports", json=citizens).headers["location"]
            left = psutil.Process(service.process.pid).children(recursive=True)
            (server,) = [process for process in left if "postgres" in process.name() and "-D" in process.cmdline()]
            environment = Path(f"/proc/{server.pid}/environ").read_bytes()
            assert b"TMPDIR" in environment
            assert b"KINFOLK" not in environment
            assert service.end(signal.SIGKILL if is_killed else signal.SIGINT) == (-9 if is_killed else 0)
            assert eventually(lambda: not any(is_alive(process.pid) for process in left))
        with Service("up", environment=where) as service:
            assert httpx.get(service.url + location).json()["data"][0]["citizen_id"] == 1
