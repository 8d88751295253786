"""Debian's RabbitMQ as a node of the bench's own: one scheduler, free ports, all it keeps in one folder."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from kinfolk.kit.process import die_with_parent

SECONDS_TO_START = 120
LIBRARY = Path("/usr/lib/rabbitmq/lib")
_SETTINGS = """listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 50MB
"""


@contextmanager
def rabbitmq(folder: Path) -> Iterator[tuple[str, int]]:
    """A node with one vhost: its URL and its pid."""
    programs = sorted(LIBRARY.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not programs:
        raise SystemExit("kinfolk: RabbitMQ is needed: tools/test-servers installs it")
    folder.mkdir()
    port, distribution, epmd = _free_ports(3)
    (folder / "rabbit.conf").write_text(_SETTINGS.format(port=port))
    (folder / "plugins").write_text("[].\n")
    cookie = folder / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    its_own = {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [programs[-1]],
            env=others | its_own,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  # no thread of ours runs then
        )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"RabbitMQ did not start:\n{(folder / 'out').read_text()[-4_000:]}")
            time.sleep(0.1)
        yield f"amqp://guest:guest@127.0.0.1:{port}/%2F", process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for each in psutil.process_iter(["name", "environ"]):  # it leaves the group of whoever started it
            if each.info["name"] == "epmd" and (each.info["environ"] or {}).get("ERL_EPMD_PORT") == str(epmd):
                each.kill()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
        probe.settimeout(5)
        probe.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(probe.recv(8))
    return False


def _free_ports(count: int) -> list[int]:
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in bound]
    for each in bound:
        each.close()
    return ports
