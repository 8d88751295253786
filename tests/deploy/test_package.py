"""The wheel and the sdist: everything is inside, and what is installed starts. `make release` asks an index, too."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.postgres_places import REPOSITORY
from tests.running import Service

from kinfolk import __version__


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=REPOSITORY, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and the packages of this one in place of an index's."""
    folder = tmp_path_factory.mktemp("installed") / "kinfolk"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    [wheel] = built.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True)
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    others = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    Path(found.stdout.strip(), "others.pth").write_text("\n".join(others))
    return folder


def files_of(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}


def tracked(*folders: str) -> set[str]:
    """Git's files, where there is a git; else those that lie there."""
    found = {path for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.is_file()}
    return {path.relative_to(REPOSITORY).as_posix() for path in found if path.parent.name != "__pycache__"}


def test_the_wheel_holds_the_package_and_the_examples_of_deploying(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        [metadata] = (archive.read(name).decode() for name in inside if name.endswith("/METADATA"))
    assert metadata.startswith("Metadata-Version: 2.4\n")
    assert re.search(rf"^Version: {re.escape(__version__)}$", metadata, re.MULTILINE)
    package = {name.removeprefix("src/") for name in tracked("src")}
    examples = {f"kinfolk-{__version__}.data/data/share/kinfolk/{name}" for name in tracked("deploy")}
    assert package | examples <= inside
    assert all(name.startswith(("kinfolk/", f"kinfolk-{__version__}.")) for name in inside)


def test_the_sdist_holds_what_a_checkout_holds(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("src", "deploy", "docs", "tests", "tools", "bench") <= inside
    assert {"run", "test", "Makefile", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"} <= inside


def test_what_is_installed_starts_and_writes_nothing_where_it_lies(
    environment: Path, make_database: Any, tmp_path: Path
) -> None:
    """As for a user who may not write there: migrations, pages and commands come out of the wheel."""
    url = make_database("wheel", is_empty=True)
    before = files_of(environment)
    variables: dict[str, str | None] = {"PYTHONPATH": None}
    python = environment / "bin/python"
    with Service("up", "--pg-url", url, python=python, cwd=tmp_path, environment=variables) as service:
        ready = httpx.get(f"{service.url}/ready", timeout=30)
        assert (ready.status_code, ready.json()["migrations"]) == (200, "at head")
        assert httpx.get(f"{service.url}/", timeout=30).status_code == 200
        assert httpx.get(f"{service.url}/docs/swagger-ui.css", timeout=30).status_code == 200
        assert service.end() == 0
    assert files_of(environment) == before


@pytest.mark.parametrize(("program", "words", "said"), [
    ("kinfolk", ["--version"], __version__),
    ("kinfolk", ["--help"], "Start everything"),
    ("kinfolk-db", ["history"], "citizens"),
])  # fmt: skip
def test_programs_of_the_wheel(program: str, words: list[str], said: str, environment: Path, pg_url: str) -> None:
    done = subprocess.run(
        [environment / "bin" / program, *words], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "KINFOLK_PG_URL": pg_url},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_one_place_says_the_version() -> None:
    assert json.loads((REPOSITORY / "openapi.json").read_text())["info"]["version"] == __version__
    assert __version__ not in (REPOSITORY / "pyproject.toml").read_text()
