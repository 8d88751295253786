"""Writes what is made out of the code: two schemas and two pages. `--check` only says what is stale."""

import sys
from pathlib import Path

from settings_page import page

import kinfolk.kit.http.protocol  # noqa: F401  # has problems of its own, which the application does not know
from kinfolk.app import MODULES
from kinfolk.kit.http.application import describe, describe_messages
from kinfolk.kit.http.pages import list_of_problems
from kinfolk.rules import EVENTS, RULES

REPOSITORY = Path(__file__).parent.parent


def main(words: list[str]) -> str | None:
    made = {
        "openapi.json": describe(MODULES, RULES),
        "asyncapi.json": describe_messages(MODULES, EVENTS),
        "docs/problems.md": list_of_problems().encode(),
        "docs/settings.md": page().encode(),
    }
    stale = [name for name, text in made.items() if _read(name) != text]
    if words == ["--check"]:
        return f"stale: {', '.join(stale)}; `make docs` writes what is in the code" if stale else None
    for name in stale:
        (REPOSITORY / name).write_bytes(made[name])
    return None


def _read(name: str) -> bytes:
    path = REPOSITORY / name
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
