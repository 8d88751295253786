"""`kinfolk new module pets`: a module of your own, made of the files of the students by giving them another name."""

import ast
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from sqlalchemy import Table

import kinfolk
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.migrate import first_of

CHECKOUT = Path(kinfolk.__file__).parents[2]
FOLDERS = ("src/kinfolk/modules/students", "tests/modules/students")
PAGE = "docs/modules/students.md"
HISTORY = "src/kinfolk/migrations/versions"
PRODUCT = "src/kinfolk/app.py"
RULES = "src/kinfolk/rules.py"
INDEX = "docs/README.md"
WHO_MAY = "tests/modules/accounts/test_rules.py"

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ONLY_THEIRS = "timezone"  # the file that another module does not need, nor what is built on it


def new_module(many: str, one: str | None) -> list[Path]:
    """Make the module, its migration, its tests and its page; returns the files that were made or changed.

    `many` is its name in the plural, `one` in the singular. Raises WrongSetting, and has then changed nothing.
    """
    names = _Names(many, one or _singular(many))
    if not all((CHECKOUT / folder).is_dir() for folder in FOLDERS):
        raise WrongSetting(f"a new module is made of {' and '.join(FOLDERS)}, which are not in {CHECKOUT}")
    texts = {
        names.given(path): names.given(_without_theirs(text) if path.endswith(".py") else text)
        for path, text in _pattern()
    }
    texts |= _migration(names)
    taken = [path for path in texts if (CHECKOUT / path).exists()]
    if taken:
        raise WrongSetting(f"there is {', '.join(taken)} already")
    marks = {PRODUCT: "students", RULES: "/students", WHO_MAY: '"GET /students', INDEX: "modules/students.md"}
    texts |= {path: _with_line(path, mark, names) for path, mark in marks.items()}
    made = [CHECKOUT / path for path in texts]
    for path, text in zip(made, texts.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _tidy([path for path in made if path.suffix == ".py"])
    subprocess.run([sys.executable, CHECKOUT / "tools/made_pages.py"], cwd=CHECKOUT, check=True)
    return made


class _Names:
    """The words for students, and those that stand in their place."""

    def __init__(self, many: str, one: str) -> None:
        for name in (many, one):
            if not NAME.fullmatch(name):
                raise WrongSetting(f"{name!r} is no name of a module: small letters, digits and _ between them")
        if many == one or many in one:
            raise WrongSetting(f"{many!r} must be a plural, and {one!r} its singular")
        self._words = {
            "students": many,
            "student": one,
            "Students": _camel(many),
            "Student": _camel(one),
            "STUDENTS": many.upper(),
            "STUDENT": one.upper(),
        }
        self._lane = many
        self._article = "an" if one[0] in "aeiou" else "a"

    def given(self, text: str) -> str:
        """The text with the new words in it."""
        text = re.sub(r"\b(a)(?= student\b)", self._article, text)
        text = re.sub(r"\bA(?= student\b)", self._article.capitalize(), text)
        text = re.sub(r"\bexample\.(?=main\b|exchange\b)", f"{self._lane}.", text)
        text = re.sub(r"(?<=-)students?", lambda word: self._words[word[0]].replace("_", "-"), text)  # a problem's kind
        return re.sub("students?|Students?|STUDENTS?", lambda word: self._words[word[0]], text)


def _singular(many: str) -> str:
    if many.endswith("ies"):
        return f"{many.removesuffix('ies')}y"
    if many.endswith("s") and not many.endswith("ss"):
        return many.removesuffix("s")
    raise WrongSetting(f"what is one of {many}? Say it with --one")


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _pattern() -> list[tuple[str, str]]:
    paths = [path for folder in FOLDERS for path in sorted((CHECKOUT / folder).glob("*.py"))]
    paths = [path for path in paths if path.stem.removeprefix("test_") != ONLY_THEIRS]
    paths.append(CHECKOUT / PAGE)
    return [(path.relative_to(CHECKOUT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def _without_theirs(text: str) -> str:
    """A file without the statements that use what is in the file of only theirs, and those that use these."""
    lines = text.splitlines(keepends=True)
    gone: set[str] = set()
    for statement in ast.parse(text).body:
        span = slice(_first_line(statement) - 1, statement.end_lineno)
        used = {part.id for part in ast.walk(statement) if isinstance(part, ast.Name)} & gone
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").endswith(f".{ONLY_THEIRS}"):
            gone |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and used:
            gone.add(statement.name)
        else:
            for name in used:  # in a list, such as that of the routes
                lines[span] = [re.sub(rf", {name}\b|\b{name}, ", "", line) for line in lines[span]]
            continue
        lines[span] = [""] * (span.stop - span.start)
    return re.sub(r"\n{4,}", "\n\n\n", "".join(lines))


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *[decorator.lineno for decorator in decorators]])


def _migration(names: _Names) -> dict[str, str]:
    """The next revision, which makes the tables as the students' are now."""
    newest = max(int(path.name[:4]) for path in (CHECKOUT / HISTORY).glob("[0-9]*_*.py"))
    number = f"{newest + 1:04}"
    theirs = import_module("kinfolk.modules.students.tables")
    text = first_of([table for table in vars(theirs).values() if isinstance(table, Table)], number, "Students")
    return {names.given(f"{HISTORY}/{number}_students.py"): names.given(text)}


def _with_line(path: str, mark: str, names: _Names) -> str:
    """The file with a line more after each in which the students stand."""
    text = (CHECKOUT / path).read_text(encoding="utf-8")
    return re.sub(rf"^.*{re.escape(mark)}.*\n", lambda line: line[0] + names.given(line[0]), text, flags=re.MULTILINE)


def _tidy(paths: list[Path]) -> None:
    """Names in another order, lines of another length: where there are the tools of development."""
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is not None:
        for words in (["check", "--fix", "--select", "I,F401"], ["format"]):
            subprocess.run([ruff, *words, "--quiet", *paths], cwd=CHECKOUT, check=True)
