"""The pages of the documentation as their readers see them: headings, blocks, links, names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.postgres_places import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")])
DECISIONS = sorted((REPOSITORY / "docs/decisions").glob("[0-9]*.md"))

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- (Ctrl-C) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is about (or ""), its text."""

    language: str
    file: str
    text: str


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def steps(page: Path) -> list[Block]:
    """The blocks of a page, in order; where the reader is to press Ctrl-C stands a block in that language."""
    words = page.read_text(encoding="utf-8")
    found = [(match.start(), block_of(match)) for match in FENCE.finditer(words)]
    found += [(match.start(), Block(match[1], "", "")) for match in MARK.finditer(words)]
    return [block for _, block in sorted(found, key=lambda step: step[0])]


def block_of(match: re.Match[str]) -> Block:
    language, _, file = match["info"].partition(" ")
    return Block(language, file, match["text"])


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """What a link may end in after `#`, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def quoted(words: str) -> Iterator[str]:
    """What stands in backticks."""
    yield from re.findall(r"`([^`\n]+)`", words)


def section(page: Path, heading: str) -> str:
    """The words under a heading of the second rank; "" where there is none."""
    found = re.search(rf"^## {re.escape(heading)}\b[^\n]*\n(.*?)(?=^## |\Z)", prose(page), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
