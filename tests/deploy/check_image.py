"""deploy/docker/Dockerfile, built by buildah on a bare Debian that has the name of the real base, and started.

Run by `make deploy-check`. There is no container engine here: buildah runs what the image says, in a chroot.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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
CARD = "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Anna\r\nTEL;VALUE=uri:tel:+442083661177\r\nEND:VCARD\r\n"
LARGEST_BYTES = 230_000_000
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
def build(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Builds one; the words are those of `docker build`."""
    with a_root() as root:
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, root, "/")
        buildah("commit", "--quiet", "--rm", container, BASE)
        found = wheels(python_of(root))
    index = tmp_path_factory.mktemp("pip") / "pip.conf"
    index.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = ["--volume", f"{found}:/wheels:ro", "--volume", f"{index}:/etc/pip.conf:ro"]
    always = ["--pull-never", "--format", "docker", "--layers", "--file", "deploy/docker/Dockerfile"]

    def build(tag: str, *words: str) -> str:
        buildah("build", *mounts, *always, "--tag", tag, *words, ".")
        return tag

    return build


@pytest.fixture(scope="module")
def image(build: Callable[..., str]) -> str:
    return build("kinfolk")


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


def test_what_watching_needs_is_in_it_where_that_is_asked_for(
    buildah: Buildah, container: str, build: Callable[..., str]
) -> None:
    look = ["--", "python", "-c", "import sentry_sdk, opentelemetry.exporter.otlp.proto.http.trace_exporter"]
    with pytest.raises(AssertionError, match="No module named 'sentry_sdk'"):
        buildah("run", container, *look)
    watched = buildah("from", "--pull-never", build("watched", "--build-arg", "WITH_EXTRAS=yes")).strip()
    assert buildah("run", watched, *look) == ""


def test_it_serves_asks_who_it_is_and_ends_when_it_is_told(
    buildah: Buildah, container: str, image: str, make_database: Any, tmp_path: Path
) -> None:
    said = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    kinfolk = ["run", container, "--", *said["Entrypoint"]]
    port = free_port()
    settings = {"PG_URL": make_database("image", is_empty=True), "API_PORT": str(port)}
    for name, value in settings.items():
        buildah("config", "--env", f"KINFOLK_{name}={value}", container)
    buildah(*kinfolk, "db", "upgrade", "head")
    with pytest.raises(AssertionError, match="can be reached from other machines and with --auth off nobody"):
        buildah(*kinfolk, *said["Cmd"], "--auth", "off")
    log = tmp_path / "log"
    with log.open("wb") as lines:
        command = buildah.command(*kinfolk, *said["Cmd"])
        running = subprocess.Popen(command, env=buildah.environment, stdout=lines, stderr=lines)
    try:
        assert eventually(lambda: "ready role=api" in log.read_text() or running.poll() is not None, SECONDS)
        assert running.poll() is None, log.read_text()[-1_000:]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
            assert client.get("/ready").json()["status"] == "ready"
            assert client.get("/api/v1/students").status_code == 401
            [password] = re.findall(r"with the password (\S+)", log.read_text())
            login = client.post("/api/v1/user/auth", json={"username": "admin", "password": password})
            token = {"authorization": f"Bearer {login.json()['data']['access_token']}"}
            assert client.get("/api/v1/students", headers=token).status_code == 200
            card = client.post("/api/v1/addresses", headers=token | {"content-type": "text/vcard"}, content=CARD)
            assert card.status_code < 300, card.text
        buildah("run", container, "--", *said["Healthcheck"]["Test"][1:])
        first = supervisor(running)
        assert first is not None
        assert first.uids().real == 10_001
        first.terminate()
        assert running.wait(SECONDS) == 0
    finally:
        if running.poll() is None:
            for process in psutil.Process(running.pid).children(recursive=True):
                process.kill()
            running.wait(SECONDS)
    with pytest.raises(AssertionError, match="refused"):
        buildah("run", container, "--", *said["Healthcheck"]["Test"][1:])


def test_it_backs_up_and_restores(buildah: Buildah, container: str) -> None:
    """After the test above, whose tables it finds."""
    script = "kinfolk backup /tmp --keep 1 && kinfolk restore /tmp/*.dump --replace"
    said = buildah("run", container, "--", "sh", "-c", script)
    assert re.search(r"\.dump: \d+ bytes, revision (\d+)\n/tmp/.+ is restored: revision \1\n", said), said
    with pytest.raises(AssertionError, match="No PostgreSQL 15 to 18 was found"):
        buildah("run", container, "--", "sh", "-c", "kinfolk backup --check /tmp/*.dump")
