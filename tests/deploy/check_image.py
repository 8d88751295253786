"""deploy/docker/Dockerfile, built by buildah on a bare Debian that has the name of the real base, and started.

Run by `make deploy-check`. There is no container engine here: buildah runs what the image says, in a chroot.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.deploy.bare_machine import a_root, python_of, wheels
from tests.deploy.nginx import free_port
from tests.postgres_places import REPOSITORY, eventually

from kinfolk import __version__

SECONDS = 120
BASE = "python:3.11-slim"
LARGEST_BYTES = 250_000_000
"""What Kinfolk may add to its base."""


class Buildah:
    """Keeps its images in a folder of its own."""

    environment = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, command: str, *words: str | Path) -> list[str | Path]:
        return ["buildah", "--root", self._folder / "images", "--runroot", self._folder / "run", command, *words]

    def __call__(self, *words: str | Path) -> str:
        done = subprocess.run(
            self.command(*map(str, words)),
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1_500:]
        return done.stdout


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    with tempfile.TemporaryDirectory(prefix="kinfolk-images-", ignore_cleanup_errors=True) as folder:
        yield Buildah(Path(folder))


@pytest.fixture(scope="module")
def image(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    with a_root() as root:
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, root, "/")
        buildah("commit", "--quiet", "--rm", container, BASE)
        found = wheels(python_of(root))
    index = tmp_path_factory.mktemp("pip") / "pip.conf"
    index.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = ["--volume", f"{found}:/wheels:ro", "--volume", f"{index}:/etc/pip.conf:ro"]
    words = ["--pull-never", "--format", "docker", "--layers", "--file", "deploy/docker/Dockerfile", "--tag", "kinfolk"]
    buildah("build", *mounts, *words, ".")
    return "kinfolk"


@pytest.fixture(scope="module")
def container(buildah: Buildah, image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image).strip()
    yield name
    buildah("rm", name)


def test_what_the_image_says_of_itself(buildah: Buildah, image: str) -> None:
    said = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    assert said["User"] == "10001:10001"
    assert (said["Entrypoint"], said["Cmd"]) == (["kinfolk"], ["api"])
    assert said["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]


def test_nothing_in_it_builds_and_its_user_changes_nothing(buildah: Buildah, container: str) -> None:
    look = (
        "for name in cc gcc make pip hatchling initdb; do command -v $name; done; id -u; kinfolk --version; echo $HOME"
    )
    assert buildah("run", container, "--", "sh", "-c", look).split() == ["10001", __version__, "/var/lib/kinfolk"]
    assert buildah("run", container, "--", "sh", "-c", "touch /opt/kinfolk/here 2>&1 || echo closed").endswith(
        "closed\n"
    )
    size = buildah("run", container, "--", "du", "--summarize", "--bytes", "/opt/kinfolk")
    assert int(size.split()[0]) < LARGEST_BYTES


def supervisor(buildah_run: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The first process of what runs in the container."""
    inside = psutil.Process(buildah_run.pid).children(recursive=True)
    return next((process for process in inside if process.cmdline()[:1] == ["kinfolk api"]), None)


def test_it_serves_and_says_so_and_ends_when_it_is_told(
    buildah: Buildah, container: str, image: str, make_database: Any, tmp_path: Path
) -> None:
    said = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    port = free_port()
    settings = {"PG_URL": make_database("image", is_empty=True), "API_PORT": str(port)}
    for name, value in settings.items():
        buildah("config", "--env", f"KINFOLK_{name}={value}", container)
    buildah("run", container, "--", *said["Entrypoint"], "db", "upgrade", "head")
    log = tmp_path / "log"
    with log.open("wb") as lines:
        command = buildah.command("run", container, "--", *said["Entrypoint"], *said["Cmd"])
        running = subprocess.Popen(command, env=buildah.environment, stdout=lines, stderr=lines)
    try:
        assert eventually(lambda: "ready role=api" in log.read_text() or running.poll() is not None, SECONDS)
        assert running.poll() is None, log.read_text()[-1_000:]
        assert httpx.get(f"http://127.0.0.1:{port}/ready", timeout=SECONDS).json()["status"] == "ready"
        buildah("run", container, "--", *said["Healthcheck"]["Test"][1:])
        first = supervisor(running)
        assert first is not None
        assert first.uids().real == 10_001
        first.terminate()
        assert running.wait(SECONDS) == 0
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    with pytest.raises(AssertionError, match="refused"):
        buildah("run", container, "--", *said["Healthcheck"]["Test"][1:])
