"""RabbitMQ as a child process: a node of our own, on free ports, with vhosts made at its start.

`python -m tests.rabbit_node FOLDER PID` runs one until it is told to end, or until the process PID has ended.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psutil

REPOSITORY = Path(__file__).parent.parent
VHOSTS = 24
SECONDS_TO_START = 120
LIBRARY = Path("/usr/lib/rabbitmq/lib")
CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
load_definitions = {folder}/definitions.json
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""


class RabbitNode:
    """A node that begins and ends as told; its data outlive a restart."""

    def __init__(self, vhosts: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kinfolk-rabbit-"))
        self.port, distribution, self._epmd = free_ports(3)
        home = self.folder / "home"
        home.mkdir()
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "definitions.json").write_text(json.dumps(definitions(vhosts)))
        (self.folder / "rabbit.conf").write_text(CONFIGURATION.format(port=self.port, folder=self.folder))
        given = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        self._environment = given | {
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbit.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "feature_flags"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_NODENAME": f"kinfolk{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, vhost: int = 0) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/v{vhost}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    def start(self) -> None:
        # What lies in /usr/sbin would become another user first.
        program = next(LIBRARY.glob("rabbitmq_server-*")) / "sbin/rabbitmq-server"
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [program],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd=self.folder,
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self._process.poll() is None, f"RabbitMQ ended:\n{self.log[-3_000:]}"
            assert time.monotonic() < deadline, f"RabbitMQ does not answer:\n{self.log[-3_000:]}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.settimeout(5)
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(probe.recv(8))
        return False

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        """End it for good, and forget its data."""
        self.kill()
        for process in psutil.process_iter(["name", "environ"]):  # it leaves the group of whoever started it
            its = process.info["environ"] or {}
            if process.info["name"] == "epmd" and its.get("ERL_EPMD_PORT") == str(self._epmd):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.remove()


def definitions(vhosts: int) -> dict[str, Any]:
    names = ["/", *(f"v{number}" for number in range(vhosts))]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": "guest", "password": "guest", "tags": ["administrator"]}],
        "vhosts": [{"name": name} for name in names],
        "permissions": [{"user": "guest", "vhost": name, **everything} for name in names],
    }


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def shared_rabbit(folder: Path, owner: int) -> str:
    """The URL of the one node whose place is `folder`, started now if it is not there; it ends with its owner."""
    place = folder / "rabbit"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "url").exists():
            with (place / "out").open("wb") as out:
                node = subprocess.Popen(
                    [sys.executable, "-m", "tests.rabbit_node", str(place), str(owner)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    cwd=REPOSITORY,
                )
            (place / "pid").write_text(str(node.pid))
            while not (place / "url").exists():
                assert node.poll() is None, (place / "out").read_text()
                time.sleep(0.1)
            node.returncode = 0  # it is not ours to wait for
    return (place / "url").read_text()


def end_rabbit(folder: Path) -> None:
    """End the node of this place, if there is one."""
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        node = psutil.Process(int((folder / "rabbit/pid").read_text()))
        node.terminate()
        node.wait(60)


def main(folder: Path, owner: int) -> None:
    """Run a node for the owner, and write its URL without a vhost to the folder."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    node = RabbitNode(VHOSTS)
    try:
        node.start()
        (folder / "url.part").write_text(node.url().removesuffix("/v0"))
        (folder / "url.part").rename(folder / "url")
        while psutil.pid_exists(owner):
            time.sleep(0.5)
    finally:
        node.remove()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
