"""Roles as processes: sockets, root given up, workers watched."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import IS_ROOT, REPOSITORY, copy_of_ready, eventually, is_alive, open_directory
from tests.running import Service, kinfolk

from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.ending import Missing, WrongSetting
from kinfolk.kit.listening import listening
from kinfolk.kit.settings import WebSettings
from kinfolk.kit.user import become

NO_SERVER = "postgresql://127.0.0.1:1/kin"  # /health asks no database


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("temporary")
    with Service("api", "--workers", "2", environment={"KINFOLK_PG_URL": NO_SERVER, "TMPDIR": str(folder)}) as service:
        yield service
    assert list(folder.iterdir()) == []  # the folder of the metrics


def test_the_line_of_a_role_that_is_ready(two_workers: Service) -> None:
    ready = two_workers.lines("^ready ")
    assert ready == [f"ready role=api address=127.0.0.1 port={two_workers.port} pid={two_workers.process.pid}"]
    assert httpx.get(f"{two_workers.url}/health").json() == {"status": "alive"}


def test_processes_have_titles_which_hold_no_password(two_workers: Service) -> None:
    parent = psutil.Process(two_workers.process.pid)
    assert parent.cmdline()[0] == "kinfolk api"
    assert sorted(child.cmdline()[0] for child in parent.children()) == ["kinfolk api 1", "kinfolk api 2"]


if IS_ROOT:

    def test_root_is_given_up_for_good(pg_url: str) -> None:
        nobody = pwd.getpwnam("nobody")
        with open_directory() as folder:
            folder.chmod(0o777)
            environment = {"TMPDIR": str(folder), "COVERAGE_PROCESS_CONFIG": None}  # nobody may not write coverage
            with Service("api", "--user", "nobody", "--pg-url", pg_url, environment=environment) as service:
                for pid in [service.process.pid, *service.workers]:
                    status = Path(f"/proc/{pid}/status").read_text()
                    ids = {
                        name: re.findall(rf"^{name}:\t(.*)$", status, re.MULTILINE)[0]
                        for name in ("Uid", "Gid", "Groups")
                    }
                    # real, effective, saved and of the file system: none is left to go back to
                    assert ids["Uid"].split() == [str(nobody.pw_uid)] * 4
                    assert ids["Gid"].split() == [str(nobody.pw_gid)] * 4
                    assert ids["Groups"].split() == [str(nobody.pw_gid)]
                    assert re.findall(r"^Cap(?:Prm|Eff):\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 2
                for path in ["/health", "/ready", "/metrics", "/docs", "/schema/openapi.json"]:
                    assert eventually(lambda path=path: httpx.get(service.url + path).status_code == 200), path
                citizens = {"citizens": [a_citizen(1)]}
                assert httpx.post(f"{service.url}/imports", json=citizens, timeout=60).status_code == 201
            assert list(folder.iterdir()) == []

else:

    def test_nobody_but_root_becomes_another_user() -> None:
        done = kinfolk("api", "--user", "nobody", "--pg-url", NO_SERVER, "--api-port", "0")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "--user nobody: only root can become another user\n"


def test_a_user_cannot_look_after_an_embedded_server() -> None:
    with open_directory() as folder:
        done = kinfolk("api", "--user", "nobody", "--api-port", "0", "--data-dir", str(copy_of_ready(folder)))
    assert done.returncode == 2
    assert done.stderr.startswith("--user nobody could not look after the embedded PostgreSQL; give --pg-url")


def test_a_killed_worker_is_replaced_and_no_request_fails(two_workers: Service) -> None:
    before = two_workers.workers
    answers: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            answers.append(httpx.get(f"{two_workers.url}/health", timeout=60).status_code)

    os.kill(before[0], signal.SIGKILL)
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        assert eventually(lambda: not is_alive(before[0]) and len(two_workers.workers) == 2)
        two_workers.says("event=process_died")
        assert eventually(lambda: bool(answers))
        os.kill(before[1], signal.SIGKILL)  # between requests or not: those accepted by it may be cut off
        time.sleep(0)
        is_over.set()
        for one in asking:
            if (error := one.exception()) is not None:
                assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    assert set(answers) == {200}
    two_workers.says(rf"level=warning event=process_died role=.* pid={before[0]} code=-9 restart_s")
    # from here on both are gone: what connects waits for the next ones
    assert {httpx.get(f"{two_workers.url}/health", timeout=60).status_code for _ in range(20)} == {200}
    assert not set(two_workers.workers) & set(before)


def test_counts_of_all_workers_are_one_sum_also_of_the_killed(two_workers: Service) -> None:
    def counted() -> float:
        text = httpx.get(f"{two_workers.url}/metrics").text
        found = re.search(
            r'kinfolk_http_requests_total{method="GET",route="/problems/{kind}",status="200"} (\S+)', text
        )
        return float(found[1]) if found else 0

    for _ in range(40):
        httpx.get(f"{two_workers.url}/problems/not-found")
    assert eventually(lambda: counted() == 40)
    victim = two_workers.workers[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in two_workers.workers and len(two_workers.workers) == 2)
    assert counted() == 40
    httpx.get(f"{two_workers.url}/no-such/{victim}")
    httpx.request("PROPFIND", f"{two_workers.url}/health")
    httpx.get(f"{two_workers.url}/imports/{victim}/citizens", timeout=30)
    wanted = ('route="/imports/{import_id', 'method="other"')
    assert eventually(lambda: all(each in httpx.get(f"{two_workers.url}/metrics").text for each in wanted))
    text = httpx.get(f"{two_workers.url}/metrics").text
    assert str(victim) not in re.sub(r"pid=\S+", "", text)
    assert "PROPFIND" not in text


def test_settings_do_not_reach_the_programs_that_are_started() -> None:
    # /proc would show the environment of before, so a program is started and asked
    program = """if True:
        import subprocess
        from kinfolk.cli import run
        from kinfolk.kit import migrate
        migrate.run = lambda *_: print(subprocess.run(["env"], capture_output=True, text=True).stdout)
        run(["db", "current"])
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "KINFOLK_PG_URL": NO_SERVER, "LC_KIN": "1"},
    )
    assert "LC_KIN=1" in done.stdout
    assert "KINFOLK_" not in done.stdout


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_unix_socket(tmp_path: Path, is_killed: bool) -> None:
    path = tmp_path / "kin.sock"
    for _ in range(2):
        with Service("api", "--pg-url", NO_SERVER, "--uds", str(path)) as service:
            service.says(f"^ready role=api uds={path} pid={service.process.pid}$")
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://kin/health").status_code == 200
            with pytest.raises(Missing, match="another process listens there"), listening(WebSettings(uds=path)):
                pass
            (worker,) = service.workers
            service.end(signal.SIGKILL if is_killed else signal.SIGTERM)
            assert eventually(lambda: not is_alive(worker))  # noqa: B023  # called at once
        assert path.exists() == is_killed


def test_a_path_that_takes_no_socket_is_missing(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    for path, reason in [
        (taken, "Address already in use"),
        (tmp_path / "none" / "kin.sock", "No such file"),
        (tmp_path / ("long" * 50), "path too long"),
    ]:
        with pytest.raises(Missing, match=reason) as end, listening(WebSettings(uds=path)):
            pass
        assert str(path) in str(end.value)
    assert taken.exists()


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = kinfolk("up", "--pg-url", NO_SERVER, "--api-port", str(port))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use; --api-port takes another one "
        "(0: any free one)\n"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_asking_nobody_needs_a_word(address: str) -> None:
    with pytest.raises(WrongSetting, match="--insecure"), listening(WebSettings(api_address=address, auth="off")):
        pass
    assert WebSettings(api_address=address).asks_who


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        (WebSettings(), False),
        (WebSettings(auth="required"), True),
        (WebSettings(api_address="::1"), False),
        (WebSettings(api_address="0.0.0.0", insecure=True), True),
        (WebSettings(api_address="0.0.0.0", insecure=True, auth="off"), False),
        (WebSettings(uds=Path("kin.sock")), True),
        (WebSettings(uds=Path("kin.sock"), auth="off"), False),
    ],
)
def test_when_everybody_is_asked_who_they_are(settings: WebSettings, asks: bool) -> None:
    assert settings.asks_who is asks


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "0.0.0.0"])
def test_loopback_needs_none(address: str) -> None:
    auth: Any = "required" if address == "0.0.0.0" else None
    settings = WebSettings(api_address=address, api_port=0, auth=auth)
    with listening(settings) as bound:
        assert socket.create_connection(bound.getsockname()[:2]).close() is None


def test_users_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongSetting, match="--user xyzzy: there is no such user"):
        become("xyzzy")
    become(pwd.getpwuid(os.geteuid()).pw_name)  # nothing to do
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    with pytest.raises(WrongSetting, match="only root can become another user"):
        become("nobody")


def test_a_broken_log_configuration_is_named(tmp_path: Path) -> None:
    config = tmp_path / "log.yaml"
    config.write_text("version: 1\nhandlers: {file: {class: logging.FileHandler, filename: /dev/full/none}}\n")
    done = kinfolk("up", "--pg-url", NO_SERVER, "--api-port", "0", "--log-config", str(config))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"--log-config {config}: ")
    assert "Not a directory" in done.stderr


def test_a_proxy_that_has_no_address_is_named_before_a_database_is_asked() -> None:
    done = kinfolk("up", "--pg-url", NO_SERVER, "--api-port", "0", "--trusted-proxies", "nginx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("--trusted-proxies must look like ")


def test_an_embedded_server_of_another_process_may_be_used_by_any_user() -> None:
    with open_directory() as folder, EmbeddedPostgres(copy_of_ready(folder)) as postgres:
        me = pwd.getpwuid(os.geteuid()).pw_name
        with Service("api", "--data-dir", str(postgres.data_dir), "--user", me) as service:
            assert service.end() == 0
        assert postgres.is_running
