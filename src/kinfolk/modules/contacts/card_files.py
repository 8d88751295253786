"""Files of vCards (3.0 and 4.0; also 2.1, as far as it is told apart): each card an entry, or what is wrong with it."""

import re
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid5

import msgspec

from kinfolk.kit.shapes import BadPlaces, walk
from kinfolk.modules.contacts.card_lines import (
    LineError,
    Property,
    components,
    read_line,
    unfolded,
    words,
    written_line,
)
from kinfolk.modules.contacts.contacts import (
    LARGEST_ENTRY_BYTES,
    Entry,
    InvalidCard,
    MalformedCards,
    NewContact,
    Refused,
    TooManyCards,
)
from kinfolk.modules.contacts.vcard import Parts, text_of, told_by, uid_in

MOST_CARDS = 50_000
NAMESPACE = UUID("6c1f2f0e-2b5a-4f53-9c59-0d3f7d1f6a55")
BEGIN = re.compile(r"^[ \t]*BEGIN:VCARD", re.IGNORECASE | re.MULTILINE)
URN = re.compile(r"(?:urn:uuid:)?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})", re.IGNORECASE)
VERSIONS = frozenset({"2.1", "3.0", "4.0"})
NOT_KEPT = frozenset({"BEGIN", "END", "VERSION"})
OF_THE_MOMENT = frozenset({"REV", "PRODID"})
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def read_cards(body: bytes) -> list[NewContact | Refused]:
    """Every card of a file in its place. Raises MalformedCards and TooManyCards."""
    is_wide = body.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = body.decode("utf-16") if is_wide else body.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise MalformedCards(f"Byte {error.start} is not UTF-16.") from None
    if sum(1 for _ in BEGIN.finditer(text)) > MOST_CARDS:
        raise TooManyCards(most_cards=MOST_CARDS)
    cards = [_read_card(number, lines) for number, lines in enumerate(_cards(text), 1)]
    if not cards:
        raise MalformedCards("There is no BEGIN:VCARD.")
    return cards


def id_of(uid: str) -> str:
    """The id under which the card with this UID is kept: that of a UUID is its own, so what we gave out is known."""
    match = URN.fullmatch(uid.strip())
    return (UUID(match[1]) if match else uuid5(NAMESPACE, uid)).hex


def uid_of(contact_id: str) -> str:
    return UUID(contact_id).urn


def _cards(text: str) -> Iterator[list[str]]:
    """The lines of each card, from BEGIN to END; a card that does not end has no END. What lies between is nobody's."""
    card: list[str] | None = None
    for line in unfolded(text):
        word = line.strip().upper()
        if card is not None:
            if word == "BEGIN:VCARD":
                yield card
                card = [line]
                continue
            card.append(line)
            if word == "END:VCARD":
                yield card
                card = None
        elif word == "BEGIN:VCARD":
            card = [line]
    if card is not None:
        yield card


def _read_card(number: int, lines: Sequence[str]) -> NewContact | Refused:
    try:
        return _contact(lines)
    except InvalidCard as problem:
        return Refused(number, problem.facts["errors"])


def _contact(lines: Sequence[str]) -> NewContact:
    """Raises InvalidCard."""
    places = BadPlaces()
    if lines[-1].strip().upper() != "END:VCARD":
        places.add([], "the card does not end: END:VCARD is missing")
    read = []
    for line in lines:
        try:
            read.append(read_line(line))
            if UNSTORABLE.search(line) or UNSTORABLE.search(read[-1].value):
                raise LineError("a line is not UTF-8, or holds a NUL")
        except LineError as error:
            places.add([], str(error))
    versions = [one.value.strip() for one in read if one.name == "VERSION"]
    if len(versions) != 1 or versions[0] not in VERSIONS:
        places.add([], f"VERSION must be given once, as one of {', '.join(sorted(VERSIONS))}")
    read = [one for one in read if one.name not in NOT_KEPT]
    document = _document(read)
    walk(document, Entry, places)
    places.raise_if_any(InvalidCard)
    entry = msgspec.convert(document, Entry)
    if len(entry.document) > LARGEST_ENTRY_BYTES:
        places.add([], f"as an entry it has more than {LARGEST_ENTRY_BYTES:,} bytes")
        places.raise_if_any(InvalidCard)
    return NewContact(_id(read), entry, "\n".join(map(written_line, read)))


def _document(read: Sequence[Property]) -> Parts:
    """The entry as JSON has it, right or wrong; what an entry cannot hold is left to the card."""
    document: Parts = {"full_name": _full_name(read)}
    for one in read:
        if (told := told_by(one)) is not None:
            field, item = told
            document.setdefault(field, []).append(msgspec.to_builtins(item))
    return document


def _full_name(read: Sequence[Property]) -> str:
    """FN, or what 3.0 and 2.1 have in its stead now and then: the name in parts, an organisation."""
    named = [one for name in ("FN", "N", "ORG") for one in read if one.name == name]
    texts = ((one, text_of(one) if one.name == "FN" else _joined(one)) for one in named)
    return next((text for one, text in texts if text.strip() or "X-JSON" in one.params), "")


def _joined(one: Property) -> str:
    parts = [words(part) for part in components(one.value)]
    if one.name == "N":  # family, given, more, before, after
        parts = [*parts[3:4], *parts[1:3], *parts[:1], *parts[4:5]]
    return " ".join(filter(None, parts))


def _id(read: Sequence[Property]) -> str:
    """Of a card without a UID, as many programs write it, the id comes of what it says."""
    if uid := uid_in(read):
        return id_of(uid)
    return uuid5(NAMESPACE, "\n".join(written_line(one) for one in read if one.name not in OF_THE_MOMENT)).hex
