"""Kinfolk as its users run it: a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.postgres_places import REPOSITORY

FEW_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_asyncio.plugin,xdist.plugin"}
"""For tests that run tests: to load what the environment brings takes longer than many of them."""
SECONDS_TO_START = 120
SECONDS_TO_END = 60
SECONDS_TO_SAY = 60
LONGEST_LINE = 400


def kinfolk(*words: str, cwd: Path = REPOSITORY, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end, with these variables in its environment."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "200"} | variables
    return subprocess.run(
        [sys.executable, "-m", "kinfolk", *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=cwd,
        env=environment,
    )


class Service:
    """A role that was started and says when it is ready; all it writes lands in a file.

    A variable of `environment` that is None is taken out. `program` is another product on the same kit.
    """

    def __init__(
        self,
        role: str,
        *words: str,
        environment: dict[str, str | None] | None = None,
        program: str = "kinfolk",
        **how: Any,
    ) -> None:
        self._log = Path(tempfile.mkstemp(prefix="kinfolk-service-", suffix=".log")[1])
        is_web = role in {"up", "api"} and "--api-port" not in words and "--uds" not in words
        port = ("--api-port", "0") if is_web else ()
        given = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")} | (environment or {})
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", program, role, *port, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={name: value for name, value in given.items() if value is not None},
                **how,
            )

    @property
    def log(self) -> str:
        """All that it has written; also when it is gone."""
        return self._log.read_text(errors="replace") if self._log.exists() else self._last_words

    def lines(self, pattern: str) -> list[str]:
        """Those lines that it has written in which the pattern is found."""
        return [line for line in self.log.splitlines() if re.search(pattern, line)]

    def says(self, pattern: str, seconds: float = SECONDS_TO_SAY) -> str:
        """Wait for a line in which the pattern is found, and give it; fails in few words."""
        deadline = time.monotonic() + seconds
        while True:
            has_ended = self.process.poll() is not None
            if found := self.lines(pattern):
                return found[0]
            assert not has_ended, f"ended with {self.process.returncode} and never said {pattern!r}{self._last_lines()}"
            assert time.monotonic() < deadline, f"did not say {pattern!r} within {seconds} s{self._last_lines()}"
            time.sleep(0.02)

    def never_said(self, pattern: str) -> None:
        """Fails in few words where a line is found."""
        found = self.lines(pattern)
        assert not found, f"said {pattern!r} {len(found)} times, first:\n{found[0][:LONGEST_LINE]}"

    def _last_lines(self) -> str:
        return "; at last:\n" + "\n".join(line[:LONGEST_LINE] for line in self.log.splitlines()[-10:])

    def wait_ready(self) -> Self:
        """Wait for the role's line; fails with the last lines when it ended instead."""
        self.says("^ready role=", SECONDS_TO_START)
        return self

    @property
    def port(self) -> int:
        ready = re.compile(r"^ready role=\S+ address=\S+ port=(\d+) pid=\d+$")
        found = ready.search(self.says(ready.pattern))
        assert found
        return int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        """The pids of its processes, the oldest first."""
        workers = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it may end this moment
                if "".join(child.cmdline()).startswith("kinfolk api"):
                    workers.append(child.pid)
        return workers

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS_TO_END)

    def __enter__(self) -> Self:
        return self.wait_ready()

    def __exit__(self, *_error: object) -> None:
        try:
            self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._last_words = self.log
            self._log.unlink()
