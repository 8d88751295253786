"""Contacts: an address book, kept in the database, in a folder of files or in memory."""

from kinfolk.kit.module import module

MODULE = module(
    __name__,
    description="An address book: entries added, searched, replaced, removed, and exchanged as vCards.",
    is_at_root=True,
    slash_below=["/addresses"],
)
