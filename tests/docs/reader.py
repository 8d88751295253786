"""Somebody who follows a page word for word: a checkout, a home, a terminal, and Ctrl-C."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.checkout import LOCKS, copied
from tests.docs.pages import Block
from tests.postgres_places import copy_of_ready, eventually
from tests.running import FEW_PLUGINS

CHECKOUT = ["src", "tests", "tools", "docs", "deploy", "examples", ".ci", "run", "test", "Makefile", "pyproject.toml"]
CHECKOUT += ["README.md", *LOCKS]
LAST_WORDS = {"up": "Ctrl-C ends it.", "api": "ready role=api"}
SECONDS_TO_START = 120

# As `./run` makes it, but with the packages and the Python that these tests run on; no package index is asked.
ENVIRONMENT = """\
set -e
. tools/environment.sh
mkdir -p "$venv/bin"
ln -s "$1/lib" "$venv/lib"
cp "$1/pyvenv.cfg" "$venv/" 2>/dev/null || true
ln -sf "$1"/bin/* "$venv/bin/"
rm -f "$venv/bin/kinfolk"
cat >"$venv/bin/kinfolk" <<END
#!$venv/bin/python
from kinfolk.__main__ import main
if __name__ == "__main__":
    main()
END
chmod +x "$venv/bin/kinfolk"
recipe requirements-dev.txt >"$stamp"
"""


class Reader:
    """Runs a page's blocks in order, in one terminal, and roles in a second one."""

    def __init__(self, changed: dict[str, str], *, is_new: bool = False) -> None:
        """`changed` are words of the pages and what stands for them here, such as a free port.

        Who is new has never started Kinfolk here; all others have.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="kinfolk-docs-"))
        self.folder.chmod(0o755)  # as root, PostgreSQL's user must pass
        self.checkout = self.folder / "kinfolk"
        self.home = self.folder / "home"
        self._changed = changed
        self._exported = self.folder / "exported"
        self._exported.touch()
        self._service: subprocess.Popen[str] | None = None
        self._make_checkout()
        if not is_new:
            share = self.home / ".local/share"
            share.mkdir(parents=True)
            copy_of_ready(share, is_migrated=True).rename(share / "kinfolk")

    def _make_checkout(self) -> None:
        copied(CHECKOUT, self.checkout)
        self.home.mkdir()
        (self.home / ".curlrc").write_text("silent\nshow-error\n")  # as curl is at a terminal
        subprocess.run(
            ["bash", "-c", ENVIRONMENT, "tools/docs", sys.prefix], cwd=self.checkout, env=self.environment, check=True
        )

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KINFOLK", "PG"))}
        kept.pop("XDG_DATA_HOME", None)
        environment = kept | {"HOME": str(self.home), "PYTHONPATH": str(self.checkout / "src"), "COLUMNS": "200"}
        environment |= FEW_PLUGINS
        if os.geteuid() == 0:  # root's own place is not in its home
            environment["KINFOLK_DATA_DIR"] = str(self.home / ".local/share/kinfolk")
        return environment | {name: value for name, value in self._changed.items() if name.startswith("KINFOLK_")}

    def follow(self, block: Block) -> str:
        """Do what a block says; returns what it printed."""
        match block.language:
            case "sh" if is_role(block.text):
                return self._start(block.text)
            case "sh":
                return self._run(block.text)
            case "Ctrl-C":
                assert self.press_ctrl_c() == 0
            case "diff":
                self._change(block)
            case _ if block.file:
                self._write(block)
        return ""

    def as_here(self, words: str) -> str:
        for word, stand_in in self._changed.items():
            words = words.replace(word, stand_in)
        return words

    def _run(self, words: str) -> str:
        script = f"set -eo pipefail\n. {self._exported}\n{self.as_here(words)}\nexport -p >{self._exported}\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.checkout, env=self.environment, timeout=300, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{words}\nended with {done.returncode} and said:\n{done.stdout[-2_000:]}\n{self.log[-2_000:]}"
        )
        return done.stdout

    def _start(self, words: str) -> str:
        """Start a role in the second terminal and wait until it says that all is up."""
        assert self._service is None, f"something runs already, where the page says {words}"
        self._log.write_text("")
        with self._log.open("w") as log:
            self._service = subprocess.Popen(
                ["bash", "-c", f". {self._exported}\nexec {self.as_here(words)}"], cwd=self.checkout,
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, process_group=0,
            )  # fmt: skip
        last_words = LAST_WORDS["api" if words.startswith("./run api") else "up"]
        deadline = time.monotonic() + SECONDS_TO_START
        while last_words not in self.log:
            assert self._service.poll() is None, f"{words}\nended:\n{self.log[-2_000:]}"
            assert time.monotonic() < deadline, f"{words}\nis not up:\n{self.log[-2_000:]}"
            time.sleep(0.05)
        return self.log.partition(last_words)[0] + last_words

    def press_ctrl_c(self) -> int:
        """A terminal sends SIGINT to everybody in it."""
        assert self._service is not None, "nothing runs that Ctrl-C could end"
        service, self._service = self._service, None
        os.killpg(service.pid, signal.SIGINT)
        return service.wait(60)

    @property
    def _log(self) -> Path:
        return self.folder / "service.log"

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _write(self, block: Block) -> None:
        path = self.checkout / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), f"{block.file} is there already: show what changes in it, as a diff"
        path.write_text(self.as_here(block.text))

    def _change(self, block: Block) -> None:
        """Apply a diff: each hunk (`@@` stands between two) names a place that the file has once."""
        path = self.checkout / block.file
        text = path.read_text()
        for hunk in re.split(r"^@@\n", block.text, flags=re.MULTILINE):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(before) == 1, f"{block.file} has this {text.count(before)} times:\n{before}"
            text = text.replace(before, after)
        path.write_text(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._service is not None:
            self.press_ctrl_c()
        eventually(lambda: shutil.rmtree(self.folder, ignore_errors=True) or not self.folder.exists())


def is_role(words: str) -> bool:
    """Whether a block starts something that stays."""
    return bool(re.fullmatch(r"\./run( up\b.*| api\b.*)?\n", words))


def looks_like(shown: str, said: str) -> bool:
    """Whether a command said what a page shows: numbers may differ, and `…` stands for anything."""
    pattern = re.escape(" ".join(shown.split())).replace("…", ".*")
    pattern = re.sub(r"\d+", r"\\d+", pattern).replace(r"\ ", r"\s+")
    return re.fullmatch(pattern, " ".join(said.split()), re.DOTALL) is not None
