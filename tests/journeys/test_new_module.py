"""A module of one's own: made in a copy of the repository, its tests are green at once; and modules taken away."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.postgres_places import REPOSITORY
from tests.running import FEW_PLUGINS

COPIED = [
    "src",
    "tests",
    "tools",
    "docs",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "openapi.json",
    "asyncapi.json",
]
LOCKS = ["requirements.txt", "requirements-dev.txt"]
PIECES = ["__init__", "api", "jobs", "messages", "tables"]
OPTIONAL = re.findall(
    r'^    "kinfolk\.modules\.(\w+)",$', (REPOSITORY / "src/kinfolk/app.py").read_text(), re.MULTILINE
)

# What a process of each role loads, and what is written of it.
WHOLE_PRODUCT = """
import sys
from kinfolk.app import MODULES
from kinfolk.cli import run
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application, describe
for module in MODULES:
    module.load_tables(), module.load_jobs(), module.load_ticks(), module.load_lanes()
application(MODULES, Database("postgresql://127.0.0.1:1/none"))
describe(MODULES)
assert run(["--help"]) == 0
print(*[module.name for module in MODULES], file=sys.stderr)
"""


def copied_to(folder: Path) -> Path:
    for name in [*COPIED, *LOCKS]:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copied_to(tmp_path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For those that change nothing, and see that they did not."""
    return copied_to(tmp_path_factory.mktemp("unchanged"))


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of the environment on the code of the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    environment |= {"PYTHONPATH": f"{copy / 'src'}:{copy}", "COLUMNS": "200"} | FEW_PLUGINS
    command = [sys.executable, *words] if words[0] == "-m" else [Path(sys.executable).with_name(words[0]), *words[1:]]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip


def files(copy: Path) -> set[str]:
    """All but what programs keep for themselves."""
    paths = [path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.as_posix() for path in paths if not path.parts[0].startswith(".")}


def test_a_new_module_is_green_at_once(copy: Path) -> None:
    before = files(copy)
    made = run(copy, "-m", "kinfolk", "new", "module", "owls")
    assert made.returncode == 0, made.stderr
    new = files(copy) - before
    assert {f"src/kinfolk/modules/owls/{piece}.py" for piece in [*PIECES, "owls"]} | {"docs/modules/owls.md"} < new
    (migration,) = (path for path in new if path.startswith("src/kinfolk/migrations/"))
    assert migration.endswith("_owls.py")
    assert {"tests/modules/owls/test_owls_api.py", "tests/modules/owls/test_owls_jobs.py"} < new
    assert new < set(made.stdout.split())
    words = {path: (copy / path).read_text() for path in new}
    for path, text in words.items():
        assert not re.search(r"student|timezone(?!=True)|example\.main|\ba owl", text, re.IGNORECASE), path
    assert "/api/v1/owls/{owl_id}" in (copy / "openapi.json").read_text()
    assert "no-such-owl" in (copy / "docs/problems.md").read_text()
    python = [path for path in new if path.endswith(".py")]
    for check in (["ruff", "check", *python], ["ruff", "format", "--check", *python], ["lint-imports"]):
        done = run(copy, *check)
        assert done.returncode == 0, done.stdout + done.stderr
    green = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/modules/owls",
        "tests/kit/http/test_openapi.py", "tests/kit/test_migrate.py::test_tables_and_migrations_agree",
        "tests/docs/test_words_in_docs.py::test_the_index_leads_to_every_page",
    )  # fmt: skip
    assert green.returncode == 0, green.stdout + green.stderr
    broken = "src/kinfolk/modules/owls/owls.py"
    (copy / broken).write_text(words[broken].replace('"owl_id": "id", ', ""))
    red = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/modules/owls/test_owls_api.py")
    assert red.returncode == 1, red.stdout + red.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["students"], "there is src/kinfolk/modules/students"),
        (["Owls"], "'Owls' is no name of a module"),
        (["owls.txts"], "'owls.txts' is no name of a module"),
        (["../owls"], "is no name of a module"),
        (["owl"], "Say it with --one"),
        (["sheep", "--one", "sheep"], "must be a plural"),
    ],
)
def test_a_name_that_cannot_be_changes_nothing(unchanged: Path, words: list[str], said: str) -> None:
    before = files(unchanged)
    done = run(unchanged, "-m", "kinfolk", "new", "module", *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert files(unchanged) == before


def test_a_name_may_have_two_words_and_its_own_singular(copy: Path) -> None:
    done = run(copy, "-m", "kinfolk", "new", "module", "guinea_pig_mice", "--one", "guinea_pig_mouse")
    assert done.returncode == 0, done.stderr
    made = (copy / "src/kinfolk/modules/guinea_pig_mice/guinea_pig_mice.py").read_text()
    assert "class NoSuchGuineaPigMouse(" in made
    assert "async def list_guinea_pig_mice(" in made


def test_without_the_pattern_nothing_can_be_made(copy: Path) -> None:
    take_away(copy, "students")
    done = run(copy, "-m", "kinfolk", "new", "module", "owls")
    assert (done.returncode, "a new module is made of" in done.stderr) == (2, True), done.stderr


def take_away(copy: Path, name: str) -> None:
    """One folder and one line."""
    shutil.rmtree(copy / "src/kinfolk/modules" / name)
    product = copy / "src/kinfolk/app.py"
    text, times = re.subn(rf'^    "kinfolk\.modules\.{name}",\n', "", product.read_text(), flags=re.MULTILINE)
    assert times == 1
    product.write_text(text)


@pytest.mark.parametrize("name", OPTIONAL)
def test_the_product_is_whole_without_a_module(copy: Path, name: str) -> None:
    take_away(copy, name)
    (copy / "whole.py").write_text(WHOLE_PRODUCT)
    done = run(copy, "-m", "whole")
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == [module for module in OPTIONAL if module != name]


def test_there_are_modules_to_take_away() -> None:
    assert {"citizens", "students"} <= set(OPTIONAL)
