"""Where contacts are kept, when they are kept in the database."""

from sqlalchemy import Column, SmallInteger, String, Table, Text

from kinfolk.kit.sql import metadata

# An entry is kept as it is answered; `searched` is what a search looks through. A tag is never used twice. Ids sort by
# their bytes, as they do everywhere else.
contacts = Table(
    "contacts",
    metadata,
    Column("contact_id", String(32, collation="C"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("searched", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("card", Text),
)

# One row, taken by every change before it touches a contact: the lock, and the tag of all of them together.
address_book = Table(
    "address_book",
    metadata,
    Column("book_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("tag", Text, nullable=False),
)
