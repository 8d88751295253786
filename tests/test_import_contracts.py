"""The import contracts of pyproject.toml: what we have keeps them, and each is broken by what it is there to forbid."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import copied
from tests.postgres_places import REPOSITORY

pytestmark = pytest.mark.uncounted
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
]
CIRCLES = [
    (CYCLES, "modules/citizens/tables.py", "from kinfolk.modules.citizens import imports"),
    (CYCLES, "kit/http/answers.py", "from kinfolk.kit.http import application"),
]


def copy_in(folder: Path) -> Path:
    """The package with a second, empty module, and the contracts beside it."""
    copied(["pyproject.toml", "src/kinfolk"], folder)
    pets = folder / "src/kinfolk/modules/pets/__init__.py"
    pets.parent.mkdir()
    pets.touch()
    return folder


def planted_in(copy: Path, file: str, line: str) -> int:
    """The number of the line that was planted, which is the last of the file; 0 where it is only the file."""
    with (copy / "src/kinfolk" / file).open("a+", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
        source.seek(0)
        return len(source.readlines()) if line else 0


def verdicts(checkout: Path) -> dict[str, str]:
    """What lint-imports says there of each contract that is broken, by its name."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    said = done.stdout + done.stderr
    told = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", said, re.MULTILINE))
    assert told.keys() == {contract["name"] for contract in CONTRACTS}, said
    broken = {name for name, verdict in told.items() if verdict == "BROKEN"}
    assert (done.returncode == 0) == (not broken), said
    details = said.partition("Broken contracts")[2]
    sections = re.split(r"^(.+)\n-+$", details, flags=re.MULTILINE)
    found = {name: words for name, words in zip(sections[1::2], sections[2::2], strict=True) if name in told}
    assert found.keys() == broken, said
    return found


def test_what_we_have_keeps_every_contract(tmp_path: Path) -> None:
    assert verdicts(copy_in(tmp_path)) == {}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], tuple[int, str]]:
    """Of each planted line its number, and what is said of its contract when all of them are there."""
    copy = copy_in(tmp_path_factory.mktemp("planted"))
    numbers = {planted: planted_in(copy, *planted[1:]) for planted in PLANTED}
    said = verdicts(copy)
    return {planted: (number, said.get(planted[0], "")) for planted, number in numbers.items()}


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_violation_is_caught(planted: tuple[str, str, str], told: dict[Any, tuple[int, str]]) -> None:
    number, said = told[planted]
    module = f"kinfolk.{planted[1].removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
    place = rf"\(l\.(\d+, )*{number}\b" if number else "$"
    assert re.search(rf"^\W*{re.escape(module)}\b.*{place}", said, re.MULTILINE), said


@pytest.mark.parametrize(("contract", "file", "line"), CIRCLES)
def test_planted_circle_is_caught(tmp_path: Path, contract: str, file: str, line: str) -> None:
    """By itself: of several, only what ends most of them is named."""
    copy = copy_in(tmp_path)
    planted_in(copy, file, line)
    assert contract in verdicts(copy)


def test_no_contract_is_without_a_planted_violation() -> None:
    assert {contract for contract, _, _ in PLANTED + CIRCLES} == {contract["name"] for contract in CONTRACTS}
