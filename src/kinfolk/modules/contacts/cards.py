"""Cards in and out of a store. What reads and writes them is loaded when the first one comes."""

import asyncio
import codecs
from importlib import import_module

import msgspec
from msgspec import Struct

from kinfolk.kit.heavy import in_process
from kinfolk.modules.contacts.contacts import Entry, NewContact, Refused
from kinfolk.modules.contacts.stores import Store

LARGEST_FILE_BYTES = 16_777_216
READ_HERE_BYTES = 32_768
READ_HERE_LINES = 200  # which hold the event loop for some 20 ms
ADDED_AT_ONCE = 500
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "quoted-printable", "iso-8859-1", "windows-1252")


class CardsTaken(Struct, frozen=True):
    """What became of the cards of a file: the ids of new ones, of those that were there, and those that are wrong."""

    added: list[str]
    known: list[str]
    refused: list[Refused]


def load() -> None:
    """Load now what the first card would: a user that root becomes later may not reach where Python lies."""
    from phonenumbers import PhoneMetadata

    import_module("kinfolk.modules.contacts.card_files")
    PhoneMetadata.load_all()
    for name in CODECS:
        codecs.lookup(name)


async def take_cards(store: Store, body: bytes) -> CardsTaken:
    """Add the cards of a file; one whose UID is known changes nothing. Raises MalformedCards and TooManyCards.

    A large file is added in parts, of which each stays: sent again, it adds what is missing.
    """
    from kinfolk.modules.contacts.card_files import read_cards

    is_small = len(body) <= READ_HERE_BYTES and len(body.splitlines()) <= READ_HERE_LINES
    found = read_cards(body) if is_small else await in_process(read_cards, body)
    new = [one for one in found if isinstance(one, NewContact)]
    taken = CardsTaken([], [], [one for one in found if isinstance(one, Refused)])
    for begin in range(0, len(new), ADDED_AT_ONCE):
        some = new[begin : begin + ADDED_AT_ONCE]
        for one, is_new in zip(some, await store.add(some), strict=True):
            (taken.added if is_new else taken.known).append(one.contact_id)
    return taken


async def find_card(store: Store, contact_id: str) -> tuple[bytes, str]:
    """An entry as a vCard 4.0, with all that came with it, and the entry's tag. Raises NoSuchContact."""
    from kinfolk.modules.contacts.card_files import uid_of
    from kinfolk.modules.contacts.vcard import card_of

    kept, card = await store.find_with_card(contact_id)
    entry = msgspec.json.decode(kept.document, type=Entry)
    return await asyncio.to_thread(card_of, entry, uid_of(contact_id), card), kept.tag
