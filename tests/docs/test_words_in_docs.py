"""What the pages say is there: files, links, settings, commands, and what holds each decision."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import msgspec
import pytest
from packaging.requirements import Requirement
from tests.docs.pages import DECISIONS, PAGES, anchors, links, name_of, prose, quoted, section
from tests.postgres_places import REPOSITORY
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.http.application import describe
from kinfolk.kit.settings import PREFIX, every_setting

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CONTRACTS = {contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]}
TOP = {path.name for path in REPOSITORY.iterdir()}
HEADINGS = ["Context", "Decision", "Consequences", "Alternatives", "Held by"]
LONGEST_PAGE_LINES = 60

# Names that only look like files of ours: they are made when Kinfolk runs, or stand for those of other programs.
NOT_OURS = {
    "kinfolk.toml",
    "postgres.json",
    "postgres.log",
    "postgres.password",
    "postgresql.conf",
    "postmaster.pid",
    "pip.conf",
}
PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?(::\w+)?|::\w+")


def is_a_path(words: str) -> bool:
    """Whether words in backticks name a file or folder of this repository."""
    first, _, rest = words.partition("/")
    return bool(PATH.fullmatch(words)) and (
        (bool(rest or words.endswith("/")) and first in TOP)
        or first in {"kit", "modules", "decisions", "migrations"}
        or re.search(r"\.(py|toml|md|txt|js)(::\w+)?$|^(::)?test_\w+$", words) is not None
    )


def found(words: str) -> bool:
    """The file is there, seen from the top or from the package, or under its own name alone; so is the test in it.

    A test that is named alone is in one of them.
    """
    file, _, test = words.partition("::")
    if re.fullmatch(r"test_\w+", file):
        file, test = "", file
    file = file.rstrip("/") or "test_*.py"
    places = [*REPOSITORY.glob(file), *(REPOSITORY / "src/kinfolk").glob(file)]
    if not places and "/" not in file:
        places = [path for room in ("src", "tests", "docs", "bench") for path in (REPOSITORY / room).rglob(file)]
    return any(not test or f"def {test}(" in path.read_text(encoding="utf-8") for path in places)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = {words for words in quoted(prose(page)) if is_a_path(words)} - NOT_OURS
    assert {words for words in named if not found(words)} == set()


def test_names_of_files_are_told_from_other_words() -> None:
    words = ["kit/sql.py", "tests/nowhere.py::test_x", "docs/", "nothing.py", "test_a.py::test_b", "::test_c", "test_d"]
    others = ["make check", "api_port", "/ready", "up"]
    assert [word for word in [*words, *others] if is_a_path(word)] == words
    there = ["kit/sql.py", "kinship.py", "test_chain.py::test_the_database_refuses_to_change_it"]
    there += ["::test_the_database_refuses_to_change_it", "test_the_database_refuses_to_change_it"]
    not_there = ["nothing.py", "tests/conftest.py::test_x", "test_log.py::test_the_database_refuses_to_change_it"]
    not_there += ["::test_the_database", "test_the_database"]
    assert [word for word in [*there, *not_there] if found(word)] == there


def test_the_map_names_every_room_and_no_other() -> None:
    drawn = (REPOSITORY / "docs/map.md").read_text(encoding="utf-8")
    names = set(re.findall(r"\b[\w*]+\.py\b", drawn))
    assert {name for name in names if not found(name)} == set()
    package = REPOSITORY / "src/kinfolk"
    rooms = [path for floor in (".", "kit", "modules/citizens") for path in (package / floor).glob("*.py")]
    listed = {path for name in names for path in package.rglob(name)} | set(package.glob("kit/postgres_*.py"))
    assert {path.name for path in rooms if path not in listed} - {"__init__.py"} == set()
    assert all(path.stem in drawn for path in (package / "kit/http").glob("[!_]*.py"))


def test_no_page_waits_to_be_written() -> None:
    left = {name_of(page): re.findall(r"\b(?:FIGURES|TODO|FIXME|TBD|XXX)\b", page.read_text("utf-8")) for page in PAGES}
    assert {page: words for page, words in left.items() if words} == {}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_leads_to_every_page() -> None:
    index = REPOSITORY / "docs/README.md"
    reached = {(index.parent / link).resolve() for link in links(index)} | {index}
    assert [name_of(page) for page in PAGES if page not in reached] == []


def test_the_page_of_settings_names_every_setting() -> None:
    page = (REPOSITORY / "docs/settings.md").read_text(encoding="utf-8")
    for name in every_setting():
        assert f"`--{name.replace('_', '-')}` | `{PREFIX}{name.upper()}`" in page


def test_variables_in_the_pages_are_settings() -> None:
    for page in PAGES:
        for name in re.findall(rf"\b{PREFIX}([A-Z_]*[A-Z])\b", prose(page)):
            assert name.lower() in every_setting(), f"{name_of(page)} names {PREFIX}{name}"


def test_every_command_is_in_the_readme() -> None:
    shown = subprocess.run([sys.executable, "-m", "kinfolk", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^│ ([a-z]+)\b", shown.stdout, re.MULTILINE)
    assert "up" in commands
    table = re.findall(r"^\| `kinfolk (\w+)` \|", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(commands)


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_is_one_page_with_its_line_and_what_holds_it(page: Path) -> None:
    words = page.read_text(encoding="utf-8")
    assert words.startswith(f"# {int(page.name[:4])}. ")
    assert len(words.splitlines()) <= LONGEST_PAGE_LINES
    assert [heading for heading in HEADINGS if not section(page, heading).strip()] == []
    assert re.search(r"^(> |\*\*)\S", section(page, "Decision"), re.MULTILINE), "no line to quote"
    holders = [words for words in quoted(section(page, "Held by")) if is_a_path(words)]
    named_contracts = set(re.findall(r'"([^"]+)"', section(page, "Held by")))
    assert holders or named_contracts
    assert [holder for holder in holders if not found(holder)] == []
    assert named_contracts <= CONTRACTS


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_each_dependency_has_its_line() -> None:
    [page] = (page for page in DECISIONS if page.stem.endswith("-dependencies"))
    lines = re.findall(r"^\| ([a-z0-9-]+) \| \S", page.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = [Requirement(line).name for line in PROJECT["project"]["dependencies"]]
    assert sorted(set(lines) - {"dependency"}) == sorted(wanted)


def test_swagger_ui_brings_files_and_no_python() -> None:
    script = """
import sys
from kinfolk.kit.http import application, pages
assert "kinfolk.kit.http.pages" in sys.modules and "swagger_ui" not in sys.modules
print(*[name for name in pages._DOCS_FILES if not pages.swagger_folder().joinpath(name).is_file()])
assert "swagger_ui" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_every_route_of_a_module_is_described() -> None:
    document = msgspec.json.decode(describe(MODULES))
    described = {place["operationId"]: place for path in document["paths"].values() for place in path.values()}
    for module in MODULES:
        for route in module.handlers():
            entry = described[route.handler_name]
            assert entry["summary"]
            assert {"200", "201", "202", "204"} & entry["responses"].keys()
            refused = {str(problem.status) for problem in route.opt["operation"].refuses}
            assert refused <= entry["responses"].keys()


def test_a_request_is_one_line_of_facts(service: Service, service_url: str) -> None:
    answer = httpx.get(f"{service_url}/imports/0/citizens", headers={"x-request-id": "one-line-of-facts"})
    assert answer.headers["x-request-id"] == "one-line-of-facts"
    lines = lines_about("one-line-of-facts", service)
    assert len(lines) == 1, lines
    assert re.search(r"event=request .*method=GET path=/imports/0/citizens status=404 ms=\d+\.\d\d", lines[0])


def lines_about(request_id: str, service: Service) -> list[str]:
    """The lines of one request, once the thread that writes has had its time, and a little more."""
    service.says(request_id)
    return service.lines(request_id)
