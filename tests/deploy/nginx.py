"""The nginx of deploy/nginx, on free ports of loopback, with folders of its own."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.postgres_places import REPOSITORY, eventually

SECONDS_TO_START = 30
FILES = REPOSITORY / "deploy/nginx"
MAIN = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log notice;
{user}
events {{}}
http {{
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path unused;
    uwsgi_temp_path unused;
    scgi_temp_path unused;
    include conf.d/*.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nginx:
    """Leads to `upstream_port`; `server` is the file that says how: plain or tls. `changed` are words of the files that
    are others here."""

    def __init__(self, upstream_port: int, server: str = "plain", changed: Mapping[str, str] | None = None) -> None:
        self._changed = changed or {}
        self.folder = Path(tempfile.mkdtemp(prefix="kinfolk-nginx-"))
        self.port, self.tls_port = free_port(), free_port()
        (self.folder / "conf.d").mkdir()
        (self.folder / "nginx.conf").write_text(MAIN.format(user="user root;" if os.geteuid() == 0 else ""))
        for name in ("00-kinfolk-upstream.conf", "10-kinfolk.conf", f"20-kinfolk-{server}.conf"):
            self._write(name, f"conf.d/{name}", upstream_port)
        self._write("kinfolk.inc", "kinfolk.inc", upstream_port)
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self, name: str, where: str, upstream_port: int) -> None:
        """The file as it is, but for what this machine has elsewhere."""
        text = re.sub(r"^ *listen \[::\].*\n", "", (FILES / name).read_text(), flags=re.MULTILINE)
        for there, here in {
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.tls_port} ssl;",
            "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream_port};",
            "/var/log/nginx/": f"{self.folder}/",
            "/etc/nginx/": f"{self.folder}/",
            **self._changed,
        }.items():
            text = text.replace(there, here)
        (self.folder / where).write_text(text)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    @property
    def _command(self) -> list[str | Path]:
        return ["nginx", "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]

    def check(self) -> str:
        """What nginx says of its files."""
        done = subprocess.run([*self._command, "-t"], capture_output=True, text=True, check=False)
        return done.stderr

    def told(self, name: str) -> str:
        """What stands in a log: error.log or access.log."""
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: self._has_ended() or self._answers(), SECONDS_TO_START)
        assert not self._has_ended(), self.told("error.log")[-1_000:]
        return self

    def _has_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_error: Any) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(SECONDS_TO_START)
        shutil.rmtree(self.folder)
