"""Adding a register, and reading it back."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from mmap import mmap
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Date, any_, delete, func, insert, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import problems
from kinfolk.kit.db import Connection, copy
from kinfolk.kit.log import note
from kinfolk.kit.sql import param, sql
from kinfolk.modules.citizens.register import (
    Citizen,
    Register,
    collection_put_off,
    glance_at_register,
    read_register,
)
from kinfolk.modules.citizens.tables import citizens, idempotent_imports, imports, ties

CITIZEN_COLUMNS = tuple(column.name for column in citizens.columns)
TIE_COLUMNS = tuple(column.name for column in ties.columns)
KEYS_REMEMBERED = timedelta(days=1)
as_shown: Callable[..., Citizen] = Citizen
"""A citizen of SHOWN_COLUMNS and the list of relatives."""

# asyncpg sends 1 January of the year 1, which is Python's first day, as "-infinity"; so that is how it is stored.
BIRTH_DATE = func.greatest(citizens.c.birth_date, literal_column("date '0001-01-01'"), type_=Date)
# A citizen's own fields as the contract orders them, the date as it writes it.
SHOWN_COLUMNS = (
    citizens.c.citizen_id,
    citizens.c.town,
    citizens.c.street,
    citizens.c.building,
    citizens.c.apartment,
    citizens.c.name,
    func.to_char(BIRTH_DATE, "DD.MM.YYYY"),
    citizens.c.gender,
)

NEW_IMPORT_ID = sql(insert(imports).values(version=1, owner_id=param("owner_id")).returning(imports.c.import_id))
EDITIONS_OF_IMPORTS = sql(
    select(imports.c.import_id, imports.c.version, imports.c.created_at, imports.c.owner_id).where(
        imports.c.import_id == any_(param("import_ids", ARRAY(BigInteger)))
    )
)
CITIZENS_OF_IMPORT = sql(
    select(*SHOWN_COLUMNS).where(citizens.c.import_id == param("import_id")).order_by(citizens.c.citizen_id)
)
TIES_OF_IMPORT = sql(
    select(ties.c.low_id, ties.c.high_id)
    .where(ties.c.import_id == param("import_id"))
    .order_by(ties.c.low_id, ties.c.high_id)
)
# An update that changes nothing waits for whoever came first with the key, and returns what stands there.
FIRST_OF_KEY = sql(
    postgresql.insert(idempotent_imports)
    .values(key=param("key"), body_sha256=param("body_sha256"), import_id=param("import_id"))
    .on_conflict_do_update(index_elements=["key"], set_={"key": idempotent_imports.c.key})
    .returning(idempotent_imports.c.import_id, idempotent_imports.c.body_sha256)
)
# Those that somebody else is just forgetting are left to him: nobody waits here, so nobody can wait in a circle.
FORGOTTEN_KEYS = sql(
    delete(idempotent_imports).where(
        idempotent_imports.c.key.in_(
            select(idempotent_imports.c.key)
            .where(idempotent_imports.c.created_at < func.now() - KEYS_REMEMBERED)
            .with_for_update(skip_locked=True)
        )
    )
)
REMOVED_IMPORT = sql(delete(imports).where(imports.c.import_id == param("import_id")))


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
    note(import_id=import_id, citizens=len(register.citizens), ties=len(register.ties))
    return import_id


async def _first_import(conn: Connection, once: Once, import_id: int) -> int:
    """The import that the key stands for: this one, if nobody came with the key before."""
    await FORGOTTEN_KEYS.execute(conn)
    row = await FIRST_OF_KEY.fetchrow(conn, key=once.key, body_sha256=once.body_sha256, import_id=import_id)
    assert row is not None, "an upsert without a condition returns its row"
    first_id, body_sha256 = row
    if body_sha256 != once.body_sha256:
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
