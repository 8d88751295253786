"""What no linter says: a file gives each of its names once, for the second of two constants hides the first."""

import ast
from collections import Counter
from collections.abc import Iterator

from tests.postgres_places import REPOSITORY

ROOMS = ("src", "tests", "tools", "bench")


def given_twice(text: str) -> list[str]:
    names = Counter(name for statement in ast.parse(text).body for name in names_given(statement))
    return sorted(name for name, times in names.items() if times > 1)


def names_given(statement: ast.stmt) -> Iterator[str]:
    """At the top of a file; what stands below an `if` or a `try` is a choice."""
    match statement:
        case ast.FunctionDef(name=name, decorator_list=[]) | ast.AsyncFunctionDef(name=name, decorator_list=[]):
            yield name
        case ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def test_each_name_is_given_once() -> None:
    files = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
    found = {str(path.relative_to(REPOSITORY)): given_twice(path.read_text(encoding="utf-8")) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_second_one_is_found() -> None:
    assert given_twice("A = 1\nB: int = 2\n(A, C) = 3, 4\n") == ["A"]
    assert given_twice("NOTED = 1\ndef NOTED(): ...\nclass B: ...\nB: int = 1\n") == ["B", "NOTED"]
    assert given_twice("try:\n    import a\nexcept ImportError:\n    a = None\na: int\n") == []
