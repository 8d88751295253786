"""Contacts: an address book, kept in the database, in a folder of files or in memory."""

from kinfolk.kit.module import Module

MODULE = Module(
    name="contacts",
    description="An address book: entries added, searched, replaced, removed, and exchanged as vCards.",
    routes="kinfolk.modules.contacts.api:ROUTES",
    tables="kinfolk.modules.contacts.tables",
    statements="kinfolk.modules.contacts.statements",
    is_at_root=True,
    slash_below=["/addresses"],
)
