"""The servers of one run, each on a free port of loopback, each ended by its pid; what they write stays in a file."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from kinfolk.kit.embedded_postgres import EmbeddedPostgres
from kinfolk.kit.migrate import upgrade
from kinfolk.kit.process import die_with_parent

SECONDS_TO_START = 30
SECONDS_TO_END = 30

_READY = re.compile(r"^ready .*port=(\d+)", re.MULTILINE)
_SITE = """daemon off;
pid {folder}/nginx.pid;
worker_processes 1;
events {{}}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/json;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {root};
  }}
}}
"""


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, int]]:
    """An embedded PostgreSQL with our tables: its URL and its pid."""
    server = EmbeddedPostgres(folder)
    url = server.start()
    try:
        upgrade(url)
        assert server.pid is not None
        yield url, server.pid
    finally:
        server.stop()


@contextmanager
def kinfolk_api(pg_url: str, log: Path, *more: str) -> Iterator[tuple[str, int]]:
    """`kinfolk api`, one worker, every request logged: its URL and its pid; `more` are words of the command line."""
    words = ["kinfolk", "api", "--api-port", "0", "--pg-url", pg_url, "--log-level", "info", "--log-format", "logfmt"]
    words += more
    with _python(words, log) as process:
        yield f"http://127.0.0.1:{_port_when_ready(process, log)}", process.pid


@contextmanager
def role(product: str, name: str, log: Path, *words: str) -> Iterator[int]:
    """`kinfolk NAME`, or that of another product: its pid, once it is ready."""
    log.unlink(missing_ok=True)
    with _python([product, name, *words, "--log-level", "info", "--log-format", "logfmt"], log) as process:
        _wait(process, log, lambda: "ready role=" in log.read_text())
        yield process.pid


@contextmanager
def layer_server(form: str, log: Path) -> Iterator[tuple[str, int]]:
    """A form of the application that `bench.layers` knows: its URL and its pid."""
    with _python(["bench.layers", form], log) as process:
        yield f"http://127.0.0.1:{_port_when_ready(process, log)}", process.pid


@contextmanager
def nginx(folder: Path, files: dict[str, bytes]) -> Iterator[tuple[str, int]]:
    """Debian's nginx with a configuration and folders of its own, serving these files: its URL and its pid."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        print("kinfolk: nginx is needed: tools/test-servers installs it", file=sys.stderr)
        raise SystemExit(3)
    root = folder / "files"
    root.mkdir(parents=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    port = _free_port()
    (folder / "nginx.conf").write_text(_SITE.format(folder=folder, root=root, port=port))
    log = folder / "nginx.log"
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(log)]
    with log.open("ab") as written, _started(command, written, written) as process:
        _wait(process, log, partial(_answers, port))
        yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def beside(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that works beside this one; what it prints is for this one to read."""
    with _started(command, subprocess.PIPE) as process:
        yield process


@contextmanager
def _python(module_and_words: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", *module_and_words]
    with log.open("ab") as written, _started(command, written, written) as process:
        yield process


@contextmanager
def _started(
    command: Sequence[str], output: int | IO[bytes], errors: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    places = [place for place in sys.path if place]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  # no thread of ours runs when it is started
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_when_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    _wait(process, log, lambda: _READY.search(log.read_text()) is not None)
    found = _READY.search(log.read_text())
    assert found
    return int(found[1])


def _wait(process: subprocess.Popen[bytes], log: Path, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not is_there():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} did not start:\n{log.read_text()[-4_000:]}")
        time.sleep(0.02)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
