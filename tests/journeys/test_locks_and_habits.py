"""The lock files, the scripts themselves, and the Makefile."""

import re
import stat
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = ["run", "test", ".ci/run", "tools/check", "tools/lock", "tools/test-servers"]
SCRIPTS += ["tools/release", "tools/deploy-check", "tools/postgres-check"]
LOCKS = ["requirements.txt", "requirements-dev.txt", "requirements-extras.txt"]


def pins(lock: str) -> dict[str, str]:
    text = (CHECKOUT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash_and_no_place(lock: str) -> None:
    text = re.sub(r" *#.*", "", (CHECKOUT / lock).read_text())
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert set(re.findall(r"(?<!\S)--?[a-z-]+", text)) == {"--hash"}


def test_developers_have_the_versions_that_run() -> None:
    run, extras, developed = pins("requirements.txt"), pins("requirements-extras.txt"), pins("requirements-dev.txt")
    assert run.items() < developed.items()
    assert extras.items() < developed.items()
    assert not run.keys() & extras.keys()


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    for lock, wanted in [
        (
            "requirements.txt",
            project["project"]["dependencies"] + groups["build"] + project["build-system"]["requires"],
        ),
        ("requirements-dev.txt", groups["dev"]),
        ("requirements-extras.txt", [*chain.from_iterable(project["project"]["optional-dependencies"].values())]),
    ]:
        locked = pins(lock)
        for requirement in map(Requirement, wanted):
            version = locked[requirement.name.lower().replace("_", "-")]
            assert requirement.specifier.contains(version), f"{requirement} but {lock} has {version}: make lock"


def test_scripts_are_clean_and_can_be_run() -> None:
    for script in SCRIPTS:
        assert (CHECKOUT / script).stat().st_mode & stat.S_IXUSR, script
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run(
        [shellcheck, "-x", "-P", "SCRIPTDIR", *SCRIPTS, "tools/environment.sh"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_make_lists_every_habit() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    listed = subprocess.run(["make", "-s"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == targets[1].split()
    assert all(len(line.split()) > 2 for line in listed.splitlines())
