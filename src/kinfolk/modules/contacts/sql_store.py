"""Contacts in the database."""

import re
from collections.abc import Sequence
from itertools import chain, islice

from kinfolk.kit import forgetting
from kinfolk.kit.db import Connection, Database
from kinfolk.modules.contacts.contacts import (
    WHOLE_BOOK,
    Entry,
    Kept,
    May,
    NewContact,
    NoSuchContact,
    Page,
    new_tag,
)
from kinfolk.modules.contacts.statements import (
    ADDED,
    ALL,
    AMONG,
    BOOK,
    BOOK_TAKEN,
    REMOVED,
    REPLACED,
    SEARCHED,
    TAG,
    WITH_CARD,
)

ESCAPED = r"\\\1"
LIKE_SIGNS = re.compile(r"([\\%_])")


class SqlStore:
    """All processes and machines on one database share it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, new: Sequence[NewContact]) -> list[bool]:
        return await self._db.gathered_change(add_contacts, new)

    async def find(self, contact_id: str) -> Kept:
        return await self._db.gathered(find_contacts, contact_id)

    async def find_with_card(self, contact_id: str) -> tuple[Kept, str | None]:
        async with self._db.connection() as conn:
            document, tag, card = await WITH_CARD.fetchrow_or(conn, NoSuchContact(), contact_id=contact_id)
        return Kept(document.encode(), tag), card

    async def replace(self, contact_id: str, entry: Entry, may: May) -> None:
        async with self._db.transaction() as conn:
            await take_contact(conn, contact_id, may)
            await REPLACED.execute(
                conn,
                contact_id=contact_id,
                document=entry.document.decode(),
                searched=entry.searched,
                new_tag=new_tag(),
            )

    async def remove(self, contact_id: str, may: May) -> None:
        async with self._db.transaction() as conn:
            await take_contact(conn, contact_id, may)
            await REMOVED.execute(conn, contact_id=contact_id)
            await forgetting.owe(conn, WHOLE_BOOK)

    async def tag(self) -> str:
        return await self._db.gathered(find_tags, None)

    async def list_page(self, page: Page) -> tuple[str, list[tuple[str, bytes]]]:
        async with self._db.snapshot() as conn:
            return await list_contacts(conn, page)


async def add_contacts(conn: Connection, asked: Sequence[Sequence[NewContact]]) -> list[list[bool]]:
    """Add those whose ids are not taken, the first of each id."""
    new = list(chain.from_iterable(asked))
    await BOOK_TAKEN.execute(conn, tag=new_tag())
    rows = await ADDED.fetch(
        conn,
        contact_id=[one.contact_id for one in new],
        document=[one.entry.document.decode() for one in new],
        searched=[one.entry.searched for one in new],
        tag=[new_tag() for _ in new],
        card=[one.card for one in new],
    )
    added = {row[0] for row in rows}
    firsts = iter([_taken_out(added, one.contact_id) for one in new])
    return [list(islice(firsts, len(each))) for each in asked]


async def find_contacts(conn: Connection, contact_ids: Sequence[str]) -> list[Kept | NoSuchContact]:
    """Each in its place."""
    found = {row[0]: Kept(row[1].encode(), row[2]) for row in await AMONG.fetch(conn, contact_ids=contact_ids)}
    return [found.get(contact_id) or NoSuchContact() for contact_id in contact_ids]


async def find_tags(conn: Connection, asked: Sequence[None]) -> list[str]:
    """The tag of the whole book, for each who asks."""
    return [await BOOK.fetchval(conn) or ""] * len(asked)


async def take_contact(conn: Connection, contact_id: str, may: May) -> None:
    """Take the book, and look at a contact, which from now on nobody else can change. Raises NoSuchContact."""
    await BOOK_TAKEN.execute(conn, tag=new_tag())
    (tag,) = await TAG.fetchrow_or(conn, NoSuchContact(), contact_id=contact_id)
    may(tag)


async def list_contacts(conn: Connection, page: Page) -> tuple[str, list[tuple[str, bytes]]]:
    """In a snapshot, all of one moment."""
    (tag,) = await find_tags(conn, [None])
    patterns = [f"%{LIKE_SIGNS.sub(ESCAPED, word)}%" for word in page.words]
    asked = {"after": page.after, "limit": page.limit + 1}
    rows = await (SEARCHED.fetch(conn, **asked, patterns=patterns) if patterns else ALL.fetch(conn, **asked))
    return tag, [(contact_id, document.encode()) for contact_id, document in rows]


def _taken_out(added: set[str], contact_id: str) -> bool:
    if contact_id in added:
        added.remove(contact_id)
        return True
    return False
