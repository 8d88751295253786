"""The HTTP face of contacts."""

import re
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from msgspec import Raw

from kinfolk.kit.http import Answer, Header, Request, delete, entity_tag, get, post, put
from kinfolk.kit.http.answers import StaleTag
from kinfolk.kit.http.bodies import UNREADABLE, NoRoom, TooManyUploads
from kinfolk.modules.contacts.cards import LARGEST_FILE_BYTES, CardsTaken, find_card, take_cards
from kinfolk.modules.contacts.contacts import (
    CONTACT_ID,
    LARGEST_ENTRY_BYTES,
    WHOLE_BOOK,
    Entry,
    InvalidCard,
    MalformedCards,
    NewContact,
    NoSuchContact,
    Page,
    TooManyCards,
    picked,
    read_entry,
)
from kinfolk.modules.contacts.examples import ANNA
from kinfolk.modules.contacts.schema import SCHEMA, SCHEMA_PATH
from kinfolk.modules.contacts.stores import Store, store_of

CARD = "text/vcard"
CARDS = frozenset({CARD, "text/x-vcard", "text/directory"})
CARD_TYPE = b"text/vcard; charset=utf-8"
WEIGHT = re.compile(r"(?:^|;)\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)")
NO_WISH = (0.0, 0, 0)

ID = "3f2b8c1e9d4a4e0f8b7a6c5d4e3f2a1b"
NAMED = {"contact_id": "The id of an entry: 32 hex digits."}
TAG = Header("ETag", "The state of what is answered.")
SEEN = Header("If-None-Match", "Entity tags already seen; 304 if one of them is still right.")
UNCHANGED = Header("If-Match", "Change only if the entry still has one of these entity tags.")
LINK = Header("Link", "Where the next page is, if there is one.", f'</addresses?limit=1&after={ID}>; rel="next"')
ACCEPT = Header("Accept", "text/vcard: the entry as a vCard 4.0.", CARD)


@get(
    "/addresses",
    asks=Page,
    gives={200: dict[str, Entry], 304: None},
    given={ID: ANNA},
    reads=[SEEN],
    sets=[TAG, LINK],
)
async def get_contacts(request: Request) -> Answer:
    """Entries by id, in the order of ids: all of them, or a page."""
    page = request.asked(Page)
    store = _store(request)

    async def read() -> tuple[str, dict[str, Raw], str | None]:
        tag, found = await store.list_page(page)
        rows, after = picked(found, page)
        return entity_tag(tag), {contact_id: Raw(document) for contact_id, document in rows}, after

    async def whole() -> tuple[str, dict[str, Raw]]:
        return (await read())[:2]

    tag = entity_tag(await store.tag())
    if page.is_whole:
        return await request.answer_unless_seen(WHOLE_BOOK, tag, whole)
    if request.has_seen(tag):
        return Answer(status=304, headers={"etag": tag})
    tag, entries, after = await read()
    return Answer.of(entries, headers={"etag": tag} | ({} if after is None else {"link": _next(request, page, after)}))


@post(
    "/addresses",
    takes=Entry,
    sent=ANNA,
    gives={201: None, 200: CardsTaken},
    given=CardsTaken([ID], [], []),
    refuses=(*UNREADABLE, InvalidCard, MalformedCards, TooManyCards, TooManyUploads, NoRoom),
    sets=[Header("Location", "Where the entry is.", f"/api/v1/addresses/{ID}")],
)
async def post_contact(request: Request) -> Answer:
    """Add an entry.

    Sent as text/vcard, a card or a whole file of them is added; a card whose UID is known adds nothing. A single new
    card is answered 201, all else 200 with the ids.
    """
    if _media_type(request) in CARDS:
        return await _post_cards(request)
    entry = await read_entry(await request.bytes(LARGEST_ENTRY_BYTES))
    new = NewContact(uuid4().hex, entry)
    await _store(request).add([new])
    return _added(request, new.contact_id)


@get(
    "/addresses/{contact_id}",
    named=NAMED,
    gives={200: Entry, 304: None},
    given=ANNA,
    refuses=[NoSuchContact],
    reads=[SEEN, ACCEPT],
    sets=[TAG],
)
async def get_contact(request: Request) -> Answer:
    """An entry, or a vCard of it."""
    contact_id = _id(request)
    if _prefers_card(request):
        body, state = await find_card(_store(request), contact_id)
        tag, media_type = _card_tag(state), CARD_TYPE
    else:
        kept = await _store(request).find(contact_id)
        body, tag, media_type = kept.document, entity_tag(kept.tag), b"application/json"
    headers = {"etag": tag, "vary": "Accept"}
    if request.has_seen(tag):
        return Answer(status=304, headers=headers)
    return Answer(body, media_type=media_type, headers=headers)


@put(
    "/addresses/{contact_id}",
    named=NAMED,
    takes=Entry,
    sent=ANNA,
    gives={204: None},
    refuses=(*UNREADABLE, NoSuchContact, StaleTag),
    reads=[UNCHANGED],
)
async def put_contact(request: Request) -> Answer:
    """Put another entry in place of one; this never adds one."""
    contact_id = _id(request)
    entry = await read_entry(await request.bytes(LARGEST_ENTRY_BYTES))
    await _store(request).replace(contact_id, entry, lambda state: _require(request, state))
    return Answer(status=204)


@delete("/addresses/{contact_id}", named=NAMED, gives={204: None}, refuses=[NoSuchContact, StaleTag], reads=[UNCHANGED])
async def delete_contact(request: Request) -> Answer:
    """Remove an entry."""
    await _store(request).remove(_id(request), lambda state: _require(request, state))
    return Answer(status=204)


@get(SCHEMA_PATH, gives={200: "application/schema+json"})
async def get_schema(_request: Request) -> Answer:
    """What an entry is, as JSON Schema (2020-12)."""
    return Answer(SCHEMA, media_type=b"application/schema+json", headers={"cache-control": "no-cache"})


async def _post_cards(request: Request) -> Answer:
    async with request.whole_body(LARGEST_FILE_BYTES) as body:
        taken = await take_cards(_store(request), await body.whole())
    if len(taken.added) + len(taken.known) + len(taken.refused) == 1:
        if taken.refused:
            raise InvalidCard(taken.refused[0].errors)
        if taken.added:
            return _added(request, taken.added[0])
    return Answer.of(taken)


def _added(request: Request, contact_id: str) -> Answer:
    return Answer(status=201, headers={"location": request.place(f"/addresses/{contact_id}")})


def _store(request: Request) -> Store:
    return store_of(request.db)


def _id(request: Request) -> str:
    """Raises NoSuchContact where it can be nobody's."""
    contact_id: str = request.path_params["contact_id"]
    if not CONTACT_ID.fullmatch(contact_id):
        raise NoSuchContact
    return contact_id


def _media_type(request: Request) -> str:
    return (request.whole_header(b"content-type") or "").partition(";")[0].strip().lower()


def _prefers_card(request: Request) -> bool:
    accept = (request.whole_header(b"accept") or "").lower()
    return "text/" in accept and _wish(accept, CARD) > _wish(accept, "application/json")


def _wish(accept: str, media_type: str) -> tuple[float, int, int]:
    """How much an Accept wants a media type: its weight, then how closely and how early it is named.

    The closest range that names it counts (RFC 9110, 12.5.1). What is no weight counts as none given.
    """
    wishes: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        name, _, parameters = part.partition(";")
        given = WEIGHT.search(parameters)
        wishes.setdefault(name.strip(), (float(given[1]) if given else 1.0, -place))
    for distance, name in enumerate((media_type, media_type.partition("/")[0] + "/*", "*/*")):
        if name in wishes:
            weight, place = wishes[name]
            return (weight, -distance, place) if weight else NO_WISH
    return NO_WISH


def _card_tag(state: str) -> str:
    return entity_tag(state, "card")


def _require(request: Request, state: str) -> None:
    request.require(entity_tag(state), _card_tag(state))


def _next(request: Request, page: Page, after: str) -> str:
    asked: dict[str, Any] = {"limit": page.limit, "after": after} | ({"q": page.q} if page.q else {})
    return f'<{request.place("/addresses")}?{urlencode(asked)}>; rel="next"'


ROUTES = [get_contacts, post_contact, get_contact, put_contact, delete_contact, get_schema]
