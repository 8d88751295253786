"""A module of one's own: made in a copy of the repository, its tests are green at once; and modules taken away."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkout import LOCKS, copied
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
    *LOCKS,
]
PIECES = ["__init__", "api", "jobs", "messages", "tables"]
OPTIONAL = re.findall(
    r'^    "kinfolk\.modules\.(\w+)",$', (REPOSITORY / "src/kinfolk/app.py").read_text(), re.MULTILINE
)
REFUSED = [
    (["students"], "there is src/kinfolk/modules/students"),
    (["Owls"], "'Owls' is no name of a module"),
    (["owls.txts"], "'owls.txts' is no name of a module"),
    (["../owls"], "is no name of a module"),
    (["owl"], "Say it with --one"),
    (["sheep", "--one", "sheep"], "must be a plural"),
]

# One process for all names: `words` are a line each.
NAMES_TRIED = """
import sys
from kinfolk.cli import run
for words in sys.stdin:
    print("code", run(["new", "module", *words.split()]), file=sys.stderr)
"""
# What a process of each role loads, and what is written of it: for each module in a child that finds one folder and one
# line gone. What is not ours is loaded before, once.
WHOLE_PRODUCT = r"""
import os, re, sys
from pathlib import Path
import alembic.command, asyncpg, cyclopts, litestar, pgqueuer, prometheus_client, sqlalchemy.ext.asyncio, uvicorn
assert not [name for name in sys.modules if name.startswith("kinfolk")]
sys.dont_write_bytecode = True  # it would be taken for that of a file of the same second and size
product = Path("src/kinfolk/app.py")
text = product.read_text()
for name in sys.argv[1:]:
    changed, times = re.subn(rf'^    "kinfolk[.]modules[.]{name}",\n', "", text, flags=re.MULTILINE)
    assert times == 1
    product.write_text(changed)
    folder, aside = Path("src/kinfolk/modules", name), Path("aside")
    folder.rename(aside)
    if (child := os.fork()) == 0:
        from kinfolk.app import MODULES
        from kinfolk.cli import run
        from kinfolk.kit.db import Database
        from kinfolk.kit.http.application import application, describe
        for module in MODULES:
            module.load_tables(), module.load_jobs(), module.load_ticks(), module.load_lanes()
        application(MODULES, Database("postgresql://127.0.0.1:1/none"))
        describe(MODULES)
        assert run(["--help"]) == 0
        print(name, *[module.name for module in MODULES], file=sys.stderr)
        if name == "students":
            print("code", run(["new", "module", "owls"]), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
    aside.rename(folder)
    product.write_text(text)
"""


def run(copy: Path, *words: str, told: str = "") -> subprocess.CompletedProcess[str]:
    """A program of the environment on the code of the copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": f"{copy / 'src'}:{copy}", "COLUMNS": "200"} | FEW_PLUGINS
    command = [sys.executable, *words] if words[0][0] == "-" else [Path(sys.executable).with_name(words[0]), *words[1:]]
    return subprocess.run(
        command, cwd=copy, env=environment, input=told, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(COPIED, tmp_path_factory.mktemp("copy"))


def files(copy: Path) -> set[str]:
    """All but what programs keep for themselves."""
    paths = [path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.as_posix() for path in paths if not path.parts[0].startswith(".")}


def test_names_that_cannot_be_change_nothing(copy: Path) -> None:
    before = files(copy)
    done = run(copy, "-c", NAMES_TRIED, told="".join(f"{' '.join(words)}\n" for words, _ in REFUSED))
    said = [part.strip() for part in done.stderr.split("code 2\n")]
    assert said.pop() == "", done.stderr
    assert len(said) == len(REFUSED), done.stderr
    for answer, (_, expected) in zip(said, REFUSED, strict=True):
        assert expected in answer
    assert files(copy) == before


def test_the_product_is_whole_without_each_module(copy: Path) -> None:
    """And without the students, no other can be made."""
    before = files(copy)
    done = run(copy, "-c", WHOLE_PRODUCT, *OPTIONAL)
    assert done.returncode == 0, done.stderr
    whole = [line.split() for line in done.stderr.splitlines() if line.split()[:1] and line.split()[0] in OPTIONAL]
    assert whole == [[name, *(module for module in OPTIONAL if module != name)] for name in OPTIONAL]
    assert re.search(r"a new module is made of .*\ncode 2\n", done.stderr)
    assert files(copy) == before
    assert {"citizens", "students"} <= set(OPTIONAL)


def test_a_new_module_is_green_at_once(copy: Path) -> None:
    """Also one whose name has two words, and a singular of its own."""
    before = files(copy)
    made = run(copy, "-m", "kinfolk", "new", "module", "otter_mice", "--one", "otter_mouse")
    assert made.returncode == 0, made.stderr
    new = files(copy) - before
    pieces = {f"src/kinfolk/modules/otter_mice/{piece}.py" for piece in [*PIECES, "otter_mice"]}
    assert pieces | {"docs/modules/otter_mice.md"} < new
    (migration,) = (path for path in new if path.startswith("src/kinfolk/migrations/"))
    assert migration.endswith("_otter_mice.py")
    assert {f"tests/modules/otter_mice/test_otter_mice_{piece}.py" for piece in ("api", "jobs")} < new
    assert new < set(made.stdout.split())
    words = {path: (copy / path).read_text() for path in new}
    for path, text in words.items():
        assert not re.search(r"student|timezone(?!=True)|example\.main|\ba otter", text, re.IGNORECASE), path
    made_of = words["src/kinfolk/modules/otter_mice/otter_mice.py"]
    assert "class NoSuchOtterMouse(" in made_of
    assert "otter_mice.NoSuchOtterMouse" in words["src/kinfolk/modules/otter_mice/api.py"]
    assert "/api/v1/otter_mice/{otter_mouse_id}" in (copy / "openapi.json").read_text()
    assert "no-such-otter-mouse" in (copy / "docs/problems.md").read_text()
    python = [path for path in new if path.endswith(".py")]
    for check in (["ruff", "check", *python], ["ruff", "format", "--check", *python], ["lint-imports"]):
        done = run(copy, *check)
        assert done.returncode == 0, done.stdout + done.stderr
    green = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/modules/otter_mice",
        "tests/kit/http/test_openapi.py", "tests/kit/test_migrate.py::test_tables_and_migrations_agree",
        "tests/docs/test_words_in_docs.py::test_the_index_leads_to_every_page",
        "tests/modules/accounts/test_rules.py::test_the_table_says_what_the_contract_says",
        "tests/modules/accounts/test_rules.py::test_every_route_has_a_rule_and_every_rule_a_route",
    )  # fmt: skip
    assert green.returncode == 0, green.stdout + green.stderr
    broken = copy / "src/kinfolk/modules/otter_mice/otter_mice.py"
    broken.write_text(made_of.replace('"otter_mouse_id": "id", ', ""))
    red = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/modules/otter_mice/test_otter_mice_api.py")
    assert red.returncode == 1, red.stdout + red.stderr
