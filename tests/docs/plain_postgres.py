"""A PostgreSQL that is not Kinfolk's: Debian's, with a superuser whom it lets in, as an operator has one."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.postgres_places import SYSTEM, eventually

from kinfolk.kit.postgres_account import server_account


class PlainPostgres:
    """Runs inside `with`, on a free port of the loopback."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="kinfolk-own-"))
        self._folder.chmod(0o711)
        data = self._folder / "data"
        account = server_account(data, os.geteuid())
        data.mkdir(mode=0o700)
        shutil.chown(data, account.uid, account.gid)
        account.run([SYSTEM / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        options = [f"--port={self.port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"]
        with (self._folder / "log").open("wb") as log:
            self._server = account.begin([SYSTEM / "postgres", "-D", data, *options], log)
        assert eventually(self._is_ready), (self._folder / "log").read_text()
        return self

    def _is_ready(self) -> bool:
        asked = [SYSTEM / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def __exit__(self, *_error: object) -> None:
        self._server.terminate()
        self._server.wait(60)
        shutil.rmtree(self._folder)
