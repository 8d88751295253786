"""Copies of this checkout, for those who change something in it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.postgres_places import REPOSITORY

LOCKS = ["requirements.txt", "requirements-dev.txt"]


def copied(names: Iterable[str], folder: Path) -> Path:
    """Copy these files and folders into the folder, which may have to be made; returns it.

    With what Python has compiled, and all times: it need not be compiled again, which takes longer than to copy it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        source, target = REPOSITORY / name, folder / name
        if source.is_dir():
            # what another process compiles this moment has one more ending
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc.*"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder
