"""deploy/systemd, looked at by systemd's own tools. `make deploy-check` starts the units under a real systemd."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.postgres_places import REPOSITORY

from kinfolk.cli import run

FILES = REPOSITORY / "deploy/systemd"
UNITS = sorted(
    path.name for path in FILES.glob("kinfolk*.*") if path.suffix in {".service", ".socket", ".target", ".timer"}
)
SERVICES = [name for name in UNITS if name.endswith(".service")]
MOST_EXPOSED = 2.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's files as far as systemd looks at them, with Kinfolk installed as the pages say."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(FILES, root / "etc/systemd/system")
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    (root / "lib").symlink_to("usr/lib")
    program = root / "opt/kinfolk/bin/kinfolk"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    return root


def analyze(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", f"--root={root}", *words], capture_output=True, text=True, check=False
    )


def test_systemd_finds_nothing_wrong_with_the_units(root: Path) -> None:
    done = analyze(root, "verify", *UNITS)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_would_find_what_is_wrong(root: Path) -> None:
    (root / "etc/systemd/system/kinfolk-wrong.service").write_text("[Service]\nExecStart=/nowhere\nResart=always\n")
    done = analyze(root, "verify", "kinfolk-wrong.service")
    assert "Resart" in done.stderr
    assert "/nowhere" in done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_is_hardened(unit: str, root: Path) -> None:
    done = analyze(root, "security", "--offline=true", unit)
    level = re.search(rf"Overall exposure level for {re.escape(unit)}: ([\d.]+) ", done.stdout)
    assert level, done.stderr[-500:]
    assert float(level[1]) < MOST_EXPOSED


def test_every_role_has_a_unit_and_each_unit_begins_a_command() -> None:
    texts = [(FILES / name).read_text() for name in SERVICES]
    begun = [re.search(r"^ExecStart=/opt/kinfolk/bin/kinfolk (\w+)", text, re.MULTILINE) for text in texts]
    assert {found[1] for found in begun if found} == {"api", "backup", "consume", "db", "schedule", "up", "work"}


def test_the_file_of_settings_is_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "kinfolk.toml"
    settings.write_text(re.sub(r"^# (?=\w+ = )", "", (FILES / "kinfolk.toml").read_text(), flags=re.MULTILINE))
    assert run(["settings", "--config", str(settings)]) == 0
    assert len(re.findall(rf" {re.escape(str(settings))}$", capfd.readouterr().out, re.MULTILINE)) == 5
