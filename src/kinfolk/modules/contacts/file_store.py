"""Contacts as files, one JSON document each, for looking at; beside it, as `ID.vcf`, the card that it came with.

A file comes whole under its name or not at all: it is written under another one, flushed and renamed. Whoever changes
a contact holds the lock of its place, one of 256 in `.locks`, which keeps processes apart as well as threads. Whoever
reads needs none. A card never changes, and lies there before its contact does.
"""

import asyncio
import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from kinfolk.kit import log, problems
from kinfolk.kit.documents import FAULTS
from kinfolk.kit.ending import Missing
from kinfolk.modules.contacts.contacts import Entry, Kept, May, NewContact, NoSuchContact, Page

T = TypeVar("T")
Stamps: TypeAlias = list[tuple[str, str]]

THREADS = 16
LARGEST_FILE_BYTES = 16_777_216
OF_THIS_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""What is wrong with one file, and not with the disk."""
NAME = re.compile(r"([0-9a-f]{32})\.(json|vcf)")
UNFINISHED = re.compile(r"\.([0-9a-f]{32})\.(json|vcf)\.new")


class FolderTakesNothing(problems.Unavailable):
    """The folder of the address book cannot be read or written just now: it may be full."""


class FileStore:
    """Processes of one machine may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = folder / ".locks"
        self._threads = ThreadPoolExecutor(THREADS, "contacts")  # a disk that hangs holds up nobody else's threads
        self._skipped: dict[str, object] = {}

    def open(self) -> None:
        """See that there is a folder, and clear away what a process that was killed left unfinished. Raises Missing."""
        place = f"--contacts-store fs:{self._folder}"
        try:
            if not self._folder.is_dir():
                raise Missing(f"{place}: there is no such folder; make it: mkdir -p {self._folder}")
            self._locks.mkdir(exist_ok=True)
            for path in self._folder.iterdir():
                if match := UNFINISHED.fullmatch(path.name):
                    with self._lock(match[1]):
                        path.unlink(missing_ok=True)
                elif (match := NAME.fullmatch(path.name)) and match[2] == "vcf":
                    with self._lock(match[1]):
                        if self._is_nobodys(match[1]):
                            path.unlink()
        except OSError as error:
            raise Missing(f"{place}: it cannot be written: {error.strerror}") from error

    async def add(self, new: Sequence[NewContact]) -> list[bool]:
        def add() -> list[bool]:
            are_new = [self._add(one) for one in new]
            self._flush()
            return are_new

        return await self._aside(add)

    async def find(self, contact_id: str) -> Kept:
        return (await self._aside(lambda: self._read(contact_id)))[0]

    async def find_with_card(self, contact_id: str) -> tuple[Kept, str | None]:
        def read() -> tuple[Kept, str | None]:
            kept, _ = self._read(contact_id)
            try:
                return kept, self._path(contact_id, "vcf").read_bytes().decode()
            except (FileNotFoundError, UnicodeDecodeError):
                return kept, None

        return await self._aside(read)

    async def replace(self, contact_id: str, entry: Entry, may: May) -> None:
        def replace() -> None:
            with self._lock(contact_id):
                may(self._read(contact_id)[0].tag)
                self._write(contact_id, "json", entry.document)
                self._flush()

        await self._aside(replace)

    async def remove(self, contact_id: str, may: May) -> None:
        def remove() -> None:
            with self._lock(contact_id):
                may(self._read(contact_id)[0].tag)
                self._path(contact_id).unlink()
                self._path(contact_id, "vcf").unlink(missing_ok=True)
                self._flush()

        await self._aside(remove)

    async def tag(self) -> str:
        def tag() -> str:
            stamps = []
            for contact_id in self._ids():
                with suppress(FileNotFoundError):
                    stamps.append((contact_id, _stamp(self._path(contact_id).lstat())))
            return _joint(stamps)

        return await self._aside(tag)

    async def list_page(self, page: Page) -> tuple[str, list[tuple[str, bytes]]]:
        def read() -> tuple[str, list[tuple[str, bytes]]]:
            words = page.words
            stamps: Stamps = []
            rows: list[tuple[str, bytes]] = []
            for contact_id in self._ids():
                try:
                    kept, entry = self._read(contact_id)
                except NoSuchContact:
                    with suppress(FileNotFoundError):
                        stamps.append((contact_id, _stamp(self._path(contact_id).lstat())))
                    continue
                stamps.append((contact_id, kept.tag))
                if len(rows) <= page.limit and contact_id > page.after:
                    text = entry.searched if words else ""
                    if all(word in text for word in words):
                        rows.append((contact_id, kept.document))
            return _joint(stamps), rows

        return await self._aside(read)

    async def _aside(self, work: Callable[[], T]) -> T:
        """What `work` does in a thread. Raises FolderTakesNothing."""
        context = copy_context()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)
        except OSError as error:
            log.note(reason=error.strerror)
            raise FolderTakesNothing from error

    def _is_nobodys(self, contact_id: str) -> bool:
        """Whether this card was left by a process that was killed while it added or removed a contact."""
        return self._path(contact_id, "vcf").is_file() and not os.path.lexists(self._path(contact_id))

    def _path(self, contact_id: str, kind: str = "json") -> Path:
        return self._folder / f"{contact_id}.{kind}"

    @contextmanager
    def _lock(self, contact_id: str) -> Iterator[None]:
        """Alone with this contact, and with those whose place has the same lock."""
        descriptor = os.open(self._locks / contact_id[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _ids(self) -> list[str]:
        """Of all files that look like contacts, in order; others are reported once."""
        ids = []
        for name in sorted(path.name for path in self._folder.iterdir()):
            if match := NAME.fullmatch(name):
                if match[2] == "json":
                    ids.append(match[1])
            elif not name.startswith("."):
                self._skip(name, "its name is not that of a contact")
        return ids

    def _read(self, contact_id: str) -> tuple[Kept, Entry]:
        """Raises NoSuchContact, also where a file of that name is not a contact."""
        path = self._path(contact_id)
        try:
            with open(path, "rb", opener=_opener) as file:  # Path.open takes no opener
                stat = os.fstat(file.fileno())
                document = file.read(LARGEST_FILE_BYTES + 1)
            if len(document) > LARGEST_FILE_BYTES:
                raise msgspec.DecodeError(f"it has more than {LARGEST_FILE_BYTES:,} bytes")
            entry = msgspec.json.decode(document, type=Entry)
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise
        except OSError as error:
            if error.errno not in OF_THIS_FILE:
                raise
            self._skip(path.name, str(error.strerror))
        except FAULTS as fault:
            self._skip(path.name, str(fault))
        else:
            self._skipped.pop(path.name, None)
            return Kept(entry.document, _stamp(stat)), entry
        raise NoSuchContact

    def _skip(self, name: str, reason: str) -> None:
        mine = object()
        if self._skipped.setdefault(name, mine) is mine:  # one of several threads finds so
            log.write_line({"event": "file_skipped", "file": name, "reason": reason}, logging.WARNING)

    def _add(self, new: NewContact) -> bool:
        with self._lock(new.contact_id):
            if os.path.lexists(self._path(new.contact_id)):  # also what leads nowhere is not ours to replace
                return False
            if new.card is not None:
                self._write(new.contact_id, "vcf", new.card.encode())
            try:
                self._write(new.contact_id, "json", new.entry.document)
            except OSError:
                self._path(new.contact_id, "vcf").unlink(missing_ok=True)
                raise
        return True

    def _write(self, contact_id: str, kind: str, content: bytes) -> None:
        """With the lock, so that nobody else writes under the other name."""
        path = self._path(contact_id, kind)
        unfinished = self._folder / f".{path.name}.new"
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.utime(file.fileno(), ns=(time.time_ns(),) * 2)  # the file system's own clock ticks too rarely
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _flush(self) -> None:
        """Let what was renamed or removed in the folder outlast a power cut."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _opener(path: str, flags: int) -> int:
    """Waits for nobody, as the opening of a pipe would, and follows no link."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _stamp(stat: os.stat_result) -> str:
    """Differs after each change, also by hand: a new file has another number, or at least another moment."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


def _joint(stamps: Stamps) -> str:
    return blake2b("\n".join(map(" ".join, stamps)).encode(), digest_size=16).hexdigest()
