"""The import contracts of pyproject.toml: what we have keeps them, and each is broken by what it is there to forbid."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.postgres_places import REPOSITORY

CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

ORDER = "cli > roles > app > modules > kit"
FLOORS = "Inside the kit"
STRANGERS = "Modules do not know each other"
FACE = "Only a module's face imports its api"
HTTP = "HTTP is spoken only in api.py"
SQL = "SQL is never spoken in api.py"
SQLALCHEMY = "SQLAlchemy is for tables and statements"
TABLES = "Tables are for statements and migrations"
DRIVERS = "Drivers stay in the kit"
CYCLES = "No cycles anywhere"

API = "modules/citizens/api.py"
KINSHIP = "modules/citizens/kinship.py"

# a contract, the file where somebody forgets it, and the line
PLANTED = [
    (ORDER, "kit/shapes.py", "from kinfolk.modules.citizens import kinship"),
    (ORDER, "kit/module.py", "import kinfolk.app"),
    (ORDER, KINSHIP, "import kinfolk.app"),
    (ORDER, "app.py", "import kinfolk.cli"),
    (ORDER, API, "def late() -> None:\n    import kinfolk.cli"),  # a late import is one, too
    (ORDER, "helpers.py", ""),  # a new room has no floor
    (FLOORS, "kit/settings.py", "from kinfolk.kit import db"),
    (FLOORS, "kit/sql.py", "from kinfolk.kit.http import answers"),
    (FLOORS, "kit/http/server.py", "from kinfolk.kit import process"),
    (FLOORS, "kit/shapes.py", "from kinfolk.kit import metrics"),  # neighbours on one floor do not meet
    (FLOORS, "kit/helpers.py", ""),
    (STRANGERS, "modules/pets/__init__.py", "from kinfolk.modules.citizens import kinship"),
    (STRANGERS, "modules/citizens/kinship.py", "from kinfolk.modules import pets"),
    (FACE, "modules/citizens/answers.py", "from kinfolk.modules.citizens import api"),
    (HTTP, KINSHIP, "import litestar"),
    (HTTP, "modules/citizens/imports.py", "from kinfolk.kit.http import Answer"),
    (SQL, API, "import sqlalchemy"),
    (SQL, API, "from kinfolk.modules.citizens.tables import citizens"),
    (SQL, API, "from kinfolk.kit.sql import sql"),
    (SQLALCHEMY, "modules/citizens/imports.py", "from sqlalchemy import select"),
    (SQLALCHEMY, "kit/ledger.py", "import sqlalchemy"),
    (SQLALCHEMY, "roles.py", "import sqlalchemy"),
    (TABLES, "modules/citizens/imports.py", "from kinfolk.modules.citizens.tables import citizens"),
    (TABLES, "modules/students/jobs.py", "from kinfolk.kit.sql import sql"),
    (TABLES, "kit/inbox.py", "from kinfolk.kit.tables import inbox"),
    (DRIVERS, "modules/citizens/imports.py", "import asyncpg"),
    (DRIVERS, "cli.py", "import alembic"),
    (DRIVERS, "app.py", "import uvicorn"),
    (DRIVERS, "modules/citizens/api.py", "import redis"),
    (CYCLES, "modules/citizens/tables.py", "from kinfolk.modules.citizens import imports"),
    (CYCLES, "kit/http/answers.py", "from kinfolk.kit.http import application"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with a second, empty module, and the contracts beside it."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    package = tmp_path / "src/kinfolk"
    shutil.copytree(REPOSITORY / "src/kinfolk", package, ignore=shutil.ignore_patterns("__pycache__"))
    pets = package / "modules/pets/__init__.py"
    pets.parent.mkdir()
    pets.touch()
    return tmp_path


def broken_contracts(checkout: Path) -> tuple[set[str], str]:
    """The names of the contracts that are broken there, and all that lint-imports said."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    said = done.stdout + done.stderr
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", said, re.MULTILINE))
    assert verdicts.keys() == {contract["name"] for contract in CONTRACTS}, said
    broken = {name for name, verdict in verdicts.items() if verdict == "BROKEN"}
    assert (done.returncode == 0) == (not broken), said
    return broken, said


def test_what_we_have_keeps_every_contract(copy: Path) -> None:
    broken, said = broken_contracts(copy)
    assert not broken, said


@pytest.mark.parametrize(("contract", "file", "line"), PLANTED)
def test_planted_violation_is_caught(copy: Path, contract: str, file: str, line: str) -> None:
    with (copy / "src/kinfolk" / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    broken, said = broken_contracts(copy)
    assert contract in broken, said


def test_no_contract_is_without_a_planted_violation() -> None:
    assert {contract for contract, _, _ in PLANTED} == {contract["name"] for contract in CONTRACTS}
