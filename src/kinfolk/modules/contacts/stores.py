"""What a store of contacts does, and which one this process has: nothing else knows."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from kinfolk.kit.db import Database
from kinfolk.kit.ending import WrongSetting
from kinfolk.modules.contacts.contacts import Entry, Kept, May, NewContact, Page
from kinfolk.modules.contacts.file_store import FileStore
from kinfolk.modules.contacts.memory_store import MemoryStore
from kinfolk.modules.contacts.sql_store import SqlStore


class Store(Protocol):
    """Contacts by id. What a call answered stays, whatever happens to the process; each change is whole or not at all.

    An id is 32 hexadecimal digits; anything else is nobody's. Ids are listed in the order of their bytes.
    """

    async def add(self, new: Sequence[NewContact]) -> list[bool]:
        """Add those whose ids are not taken; says of each whether it was added."""

    async def find(self, contact_id: str) -> Kept:
        """Raises NoSuchContact."""

    async def find_with_card(self, contact_id: str) -> tuple[Kept, str | None]:
        """With what came with it when it was added. Raises NoSuchContact."""

    async def replace(self, contact_id: str, entry: Entry, may: May) -> None:
        """Put another entry in its place; its card stays. Raises NoSuchContact and what `may` does."""

    async def remove(self, contact_id: str, may: May) -> None:
        """Raises NoSuchContact and what `may` does."""

    async def tag(self) -> str:
        """Of all of them together: another one after each change."""

    async def list_page(self, page: Page) -> tuple[str, Sequence[tuple[str, bytes]]]:
        """The tag, and those of the page by id, and one more where there are more; all of one moment."""


_chosen: Callable[[Database], Store] = SqlStore


def store_of(db: Database) -> Store:
    """The store of this process; `db` is where contacts are, unless another one was chosen."""
    return _chosen(db)


def _only(store: Store, _db: Database) -> Store:
    return store


def choose(words: str, workers: int = 1) -> None:
    """Choose as `--contacts-store` says, before anybody asks. Raises WrongSetting and Missing."""
    global _chosen  # noqa: PLW0603  # once a process
    kind, _, place = words.partition(":")
    if words == "sql":
        _chosen = SqlStore
    elif words == "memory":
        if workers > 1:
            raise WrongSetting("--contacts-store memory is each process's own, so it goes with --workers 1")
        _chosen = partial(_only, MemoryStore())
    elif kind == "fs" and place:
        files = FileStore(Path(os.path.expanduser(place)))  # noqa: PTH111  # Path's own fails at a ~ that is nobody's
        files.open()
        _chosen = partial(_only, files)
    else:
        raise WrongSetting(f"--contacts-store {words}: it is sql, memory or fs:FOLDER")
