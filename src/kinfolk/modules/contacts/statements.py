"""What is asked of contacts, where they are kept in the database."""

from sqlalchemy import Text, all_, any_, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from kinfolk.kit.sql import param, sql
from kinfolk.modules.contacts.tables import address_book, contacts

_THE_BOOK = 1
_COLUMNS = ("contact_id", "document", "searched", "tag", "card")
_IS_MEANT = contacts.c.contact_id == param("contact_id")

_TAKEN = insert(address_book).values(book_id=_THE_BOOK, tag=param("tag"))
BOOK_TAKEN = sql(_TAKEN.on_conflict_do_update(index_elements=["book_id"], set_={"tag": _TAKEN.excluded.tag}))
BOOK = sql(select(address_book.c.tag).where(address_book.c.book_id == _THE_BOOK))
ADDED = sql(
    insert(contacts)
    .from_select(_COLUMNS, select(*(func.unnest(param(name, ARRAY(Text))) for name in _COLUMNS)))
    .on_conflict_do_nothing()
    .returning(contacts.c.contact_id)
)
AMONG = sql(
    select(contacts.c.contact_id, contacts.c.document, contacts.c.tag).where(
        contacts.c.contact_id == any_(param("contact_ids", ARRAY(Text)))
    )
)
WITH_CARD = sql(select(contacts.c.document, contacts.c.tag, contacts.c.card).where(_IS_MEANT))
TAG = sql(select(contacts.c.tag).where(_IS_MEANT))
REPLACED = sql(
    update(contacts)
    .where(_IS_MEANT)
    .values(document=param("document"), searched=param("searched"), tag=param("new_tag"))
)
REMOVED = sql(delete(contacts).where(_IS_MEANT))
_LISTED = (
    select(contacts.c.contact_id, contacts.c.document)
    .where(contacts.c.contact_id > param("after"))
    .order_by(contacts.c.contact_id)
    .limit(param("limit"))
)
ALL = sql(_LISTED)
SEARCHED = sql(_LISTED.where(contacts.c.searched.like(all_(param("patterns", ARRAY(Text))))))
