"""Entries of the address book: their shape, what a search looks through, and what a store is told of them."""

import asyncio
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeAlias
from unicodedata import normalize

import msgspec
from email_validator import EmailNotValidError, validate_email
from msgspec import UNSET, Meta, Struct, UnsetType

from kinfolk.kit import problems
from kinfolk.kit.documents import read_json

CONTACT_ID = re.compile(r"[0-9a-f]{32}")
EVERYTHING = 2**31 - 1
WHOLE_BOOK = "addresses"
"""Where the answer with all of them is kept."""
LARGEST_ENTRY_BYTES = 1_048_576
READ_HERE_BYTES = 8_192  # full of addresses in other alphabets, these hold the event loop for some 30 ms
LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3; and what judges addresses is quadratic in their length
FOLDED_AT_ONCE = re.compile(r"\s+|\S{1,200}")

May: TypeAlias = Callable[[str], None]
"""Is given the tag of what now stands, and raises where that is not what the caller has seen."""


class NoSuchContact(problems.NotFound):
    """There is no such entry in the address book."""


class MalformedCards(problems.BadInput):
    """The body is no file of vCards."""


class InvalidCard(problems.InvalidDocument):
    """The card breaks the rules."""


class TooManyCards(problems.TooLarge):
    """The file has more cards than are taken at once."""


def email_fault(address: str) -> str | None:
    """Why this is no e-mail address, by its form alone: no name server is asked."""
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError as fault:
        return f"is not an e-mail address: {fault}"
    return None


def zero_fault(number: int) -> str | None:
    return None if number else "must not be 0"


Kind = Literal["home", "work"]
Words = Annotated[str, Meta(min_length=1)]
Pincode = Annotated[int, Meta(extra={"rule": zero_fault}, extra_json_schema={"not": {"const": 0}})] | Words
EmailAddress = Annotated[
    str, Meta(max_length=LONGEST_EMAIL, extra={"rule": email_fault}, extra_json_schema={"format": "email"})
]


class Address(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where somebody lives or works."""

    kind: Kind
    building_name: str | UnsetType = UNSET
    unit_number: int | float | UnsetType = UNSET
    street_number: int | float | str | UnsetType = UNSET
    street_name: Words
    locality: str | UnsetType = UNSET
    city: str | UnsetType = UNSET
    province: str | UnsetType = UNSET
    pincode: Pincode
    country: Words


class Phone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number in parts, as ITU-T E.164 has them; dialled one after another."""

    kind: Kind
    country_code: Annotated[int, Meta(gt=0)]
    area_code: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    local_number: Annotated[int, Meta(gt=0)]


class Email(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An e-mail address."""

    kind: Kind
    email: EmailAddress


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the address book knows of somebody."""

    full_name: Words
    addresses: list[Address] = []
    phone_numbers: list[Phone] = []
    fax_numbers: list[Phone] = []
    emails: list[Email] = []

    @property
    def document(self) -> bytes:
        """As it is kept and answered."""
        return msgspec.json.encode(self)

    @property
    def searched(self) -> str:
        """Names, e-mails and towns, a line each, so that one text equals another whatever its case and its form."""
        towns = [place for each in self.addresses for place in (each.locality, each.city) if isinstance(place, str)]
        return "\n".join(map(_folded, [self.full_name, *(each.email for each in self.emails), *towns]))


class Page(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the address book."""

    limit: Annotated[int, Meta(ge=1, le=EVERYTHING, description="How many at the most.")] = EVERYTHING
    after: Annotated[
        str, Meta(pattern="^([0-9a-f]{32})?(?!\\n)$", description="The id of the last one already seen.")
    ] = ""
    q: Annotated[str, Meta(max_length=200, description="Words, each of which a name, e-mail or town holds.")] = ""

    @property
    def is_whole(self) -> bool:
        return self == WHOLE

    @property
    def words(self) -> list[str]:
        """What `Entry.searched` must hold, each of them."""
        return _folded(self.q).split()


WHOLE = Page()


class NewContact(Struct, frozen=True):
    """An entry under its id; `card` is what came with it beyond what an entry holds."""

    contact_id: str
    entry: Entry
    card: str | None = None


class Refused(Struct, frozen=True):
    """The number of a card in its file, from 1, and what is wrong with it."""

    card: int
    errors: list[problems.BadPlace]


class Kept(Struct, frozen=True):
    """An entry as it is answered, under the tag of this very state of it."""

    document: bytes
    tag: str


async def read_entry(body: bytes) -> Entry:
    """The entry in a document, which a thread reads where it is long. Raises as `read_json`."""
    if len(body) <= READ_HERE_BYTES:
        return read_json(body, Entry)
    return await asyncio.to_thread(read_json, body, Entry)


def new_tag() -> str:
    """A tag that nothing else ever had."""
    return secrets.token_hex(8)


def picked(found: Iterable[tuple[str, Any]], page: Page) -> tuple[list[tuple[str, Any]], str | None]:
    """Of what is found by `page` with one more than its limit: the page, and where the next one begins."""
    rows = list(found)
    if len(rows) <= page.limit:
        return rows, None
    rows = rows[: page.limit]
    return rows, rows[-1][0]


def _folded(text: str) -> str:
    """Unicode's caseless match of compatible forms (The Unicode Standard, D146), nearly.

    Word by word: to put the accents on one letter in order takes time quadratic in their number.
    """
    return "".join(normalize("NFKC", normalize("NFKC", word).casefold()) for word in FOLDED_AT_ONCE.findall(text))
