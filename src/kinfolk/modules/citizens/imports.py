"""Adding a register, and reading it back."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from mmap import mmap
from typing import Any

import msgspec

from kinfolk.kit import audit, events, problems
from kinfolk.kit.db import Connection, copy
from kinfolk.kit.log import note, origin
from kinfolk.modules.citizens.register import (
    Citizen,
    Register,
    collection_put_off,
    glance_at_register,
    read_register,
)
from kinfolk.modules.citizens.statements import (
    CITIZEN_COLUMNS,
    CITIZENS_OF_IMPORT,
    EDITIONS_OF_IMPORTS,
    FIRST_OF_KEY,
    FORGOTTEN_KEYS,
    NEW_IMPORT_ID,
    REMOVED_IMPORT,
    TIE_COLUMNS,
    TIES_OF_IMPORT,
)

KEYS_REMEMBERED = timedelta(days=1)
BODY_FORGOTTEN = b""
"""In place of a body's hash once a citizen was removed: the key goes on standing for the import, whatever is sent."""
as_shown: Callable[..., Citizen] = Citizen
"""A citizen of a row of CITIZENS_OF_IMPORT and the list of relatives."""


class NoSuchImport(problems.NotFound):
    """There is no such import."""


class KeyUsedDifferently(problems.Unprocessable):
    """This Idempotency-Key came with another body before."""


class Edition(msgspec.Struct, frozen=True):
    """Which state of an import's citizens: the version grows with each change."""

    version: int
    created_at: datetime
    owner_id: int | None = None
    """The user whose it is; nobody's where nobody was asked."""


class Once(msgspec.Struct, frozen=True):
    """What makes a retry the same request: the Idempotency-Key and the SHA-256 of the unpacked body."""

    key: str
    body_sha256: bytes


def glance_at_import(body: bytes, today: date, key: str | None) -> tuple[Register, Once | None] | None:
    """As `read_import`, but None for what needs more than a glance, which takes longer."""
    register = glance_at_register(body, today)
    return None if register is None else (register, _once(body, key))


def read_import(body: bytes | mmap, today: date, key: str | None) -> tuple[Register, Once | None]:
    """What `add_import` needs of a document that came with this Idempotency-Key. Raises as `read_register`."""
    return read_register(body, today), _once(body, key)


def _once(body: bytes | mmap, key: str | None) -> Once | None:
    return None if key is None else Once(key, hashlib.sha256(body).digest())


async def find_edition(conn: Connection, import_id: int) -> Edition:
    """The current edition of an import. Raises NoSuchImport."""
    [edition] = await find_editions(conn, [import_id])
    if isinstance(edition, NoSuchImport):
        raise edition
    return edition


async def find_editions(conn: Connection, import_ids: list[int]) -> list[Edition | NoSuchImport]:
    """The current edition of each import, or that there is none."""
    rows = await EDITIONS_OF_IMPORTS.fetch(conn, import_ids=import_ids)
    editions = {import_id: Edition(*edition) for import_id, *edition in rows}
    return [editions.get(import_id) or NoSuchImport(import_id=import_id) for import_id in import_ids]


async def add_import(
    conn: Connection, register: Register, once: Once | None = None, owner_id: int | None = None
) -> int:
    """Keep a register, which is that user's; returns the number of its import.

    With `once`, a request that came before with the same key is answered with its import and nothing is added; two at
    the same time wait for each other. Raises KeyUsedDifferently when the earlier body was another one.
    """
    import_id: int = await NEW_IMPORT_ID.fetchval(conn, owner_id=owner_id)
    if once is not None:
        first_id = await _first_import(conn, once, import_id)
        if first_id != import_id:
            await REMOVED_IMPORT.execute(conn, import_id=import_id)
            note(import_id=first_id, is_retry=True)
            return first_id
    await copy(conn, "citizens", CITIZEN_COLUMNS, _of_import(import_id, register.citizens))
    if register.ties:
        await copy(conn, "ties", TIE_COLUMNS, _of_import(import_id, register.ties))
    await audit.note(conn, "import.added", import_id=import_id, citizens=len(register.citizens))
    await _tell(conn, "import.created", import_id=import_id, citizens=len(register.citizens))
    note(import_id=import_id, citizens=len(register.citizens), ties=len(register.ties))
    return import_id


async def tell_arrived(conn: Connection, size_bytes: int) -> None:
    """A large document is here, and is going to be read."""
    await _tell(conn, "import.progress", stage="arrived", bytes=size_bytes)


async def tell_read(conn: Connection, register: Register, _once: Once | None) -> None:
    """It is a register, and is going to be kept."""
    await _tell(conn, "import.progress", stage="read", citizens=len(register.citizens))


async def _tell(conn: Connection, name: str, **what: Any) -> None:
    """To whoever adds it, who may know it by the id of the request."""
    whence = origin()
    await events.tell(conn, name, owner=whence.by, request_id=whence.request_id, **what)


async def _first_import(conn: Connection, once: Once, import_id: int) -> int:
    """The import that the key stands for: this one, if nobody came with the key before."""
    await FORGOTTEN_KEYS.execute(conn, kept=KEYS_REMEMBERED)
    row = await FIRST_OF_KEY.fetchrow(conn, key=once.key, body_sha256=once.body_sha256, import_id=import_id)
    assert row is not None, "an upsert without a condition returns its row"
    first_id, body_sha256 = row
    if body_sha256 not in {once.body_sha256, BODY_FORGOTTEN}:
        raise KeyUsedDifferently
    return int(first_id)


def _of_import(import_id: int, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return ((import_id, *row) for row in rows)


async def list_citizens(conn: Connection, import_id: int) -> list[Citizen]:
    """All citizens of an import by number, their relatives ascending.

    Two plain selects, merged here: a join would depend on statistics that a new import does not have yet.
    """
    rows = await CITIZENS_OF_IMPORT.fetch(conn, import_id=import_id)
    ties = await TIES_OF_IMPORT.fetch(conn, import_id=import_id)
    note(citizens=len(rows))
    with collection_put_off():
        relatives: dict[int, list[int]] = {row[0]: [] for row in rows}
        for low_id, high_id in ties:  # by (low, high), each list grows in order: first the lower, then the higher
            relatives[low_id].append(high_id)
            if low_id != high_id:
                relatives[high_id].append(low_id)
        return [as_shown(*row, relatives[row[0]]) for row in rows]
