"""Contacts in memory: gone with the process. For tests; it looks closely at what it is given."""

from collections.abc import Sequence

import msgspec

from kinfolk.modules.contacts.contacts import CONTACT_ID, Entry, Kept, May, NewContact, NoSuchContact, Page, new_tag


class MemoryStore:
    """One process's own. No call of it waits for anything, so none sees another half done."""

    def __init__(self) -> None:
        self._tag = new_tag()
        self._contacts: dict[str, tuple[Kept, str, str | None]] = {}

    async def add(self, new: Sequence[NewContact]) -> list[bool]:
        return [self._add(one) for one in new]

    async def find(self, contact_id: str) -> Kept:
        return self._find(contact_id)[0]

    async def find_with_card(self, contact_id: str) -> tuple[Kept, str | None]:
        kept, _, card = self._find(contact_id)
        return kept, card

    async def replace(self, contact_id: str, entry: Entry, may: May) -> None:
        kept, _, card = self._find(contact_id)
        may(kept.tag)
        self._put(NewContact(contact_id, entry, card))

    async def remove(self, contact_id: str, may: May) -> None:
        may(self._find(contact_id)[0].tag)
        del self._contacts[contact_id]
        self._tag = new_tag()

    async def tag(self) -> str:
        return self._tag

    async def list_page(self, page: Page) -> tuple[str, list[tuple[str, bytes]]]:
        words = page.words
        rows = []
        for contact_id, (kept, text, _) in sorted(self._contacts.items()):
            if contact_id > page.after and all(word in text for word in words):
                rows.append((contact_id, kept.document))
                if len(rows) > page.limit:
                    break
        return self._tag, rows

    def _find(self, contact_id: str) -> tuple[Kept, str, str | None]:
        try:
            return self._contacts[contact_id]
        except KeyError:
            raise NoSuchContact from None

    def _add(self, new: NewContact) -> bool:
        if new.contact_id in self._contacts:
            return False
        self._put(new)
        return True

    def _put(self, new: NewContact) -> None:
        document = new.entry.document
        assert CONTACT_ID.fullmatch(new.contact_id), "an id is 32 hexadecimal digits"
        assert msgspec.json.decode(document, type=Entry) == new.entry, "an entry is the same once written and read"
        self._contacts[new.contact_id] = (Kept(document, new_tag()), new.entry.searched, new.card)
        self._tag = new_tag()
