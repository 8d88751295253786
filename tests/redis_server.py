"""A Redis for tests: Debian's, on a free port, with nothing kept on disk."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis

SECONDS_TO_START = 60


class RedisServer:
    def __init__(self, *words: str, password: str = "") -> None:
        """`words` are options of redis-server."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._words = (*words, "--requirepass", password) if password else words
        self._password = password
        self._folder = tempfile.TemporaryDirectory(prefix="kinfolk-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        who = f"default:{self._password}@" if self._password else ""
        return f"redis://{who}127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "redis.Redis":
        """A new client; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=30)

    def start(self) -> None:
        with Path(self._folder.name, "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder.name,
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self._process.poll() is None, Path(self._folder.name, "log").read_text()
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    def names(self) -> list[str]:
        with self.client as client:
            return sorted(name.decode() for name in client.scan_iter())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        self._folder.cleanup()
