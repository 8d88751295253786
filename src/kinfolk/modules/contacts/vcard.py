"""Entries and the properties of vCard 4.0 (RFC 6350), addresses in the components of RFC 9554.

What an entry has no place for stays in the card that it came with: `card_of` puts the two together again. Two
parameters are our own: `X-JSON` names the components that are written as JSON, so that a number comes back as a number,
and `X-PARTS` has the parts of a telephone number where a numbering plan would part it differently.
"""

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

import msgspec
import phonenumbers
from msgspec import UNSET

from kinfolk.kit.documents import FAULTS
from kinfolk.modules.contacts.card_lines import (
    Property,
    components,
    escaped,
    folded,
    plain,
    read_line,
    words,
    written_line,
)
from kinfolk.modules.contacts.contacts import Address, Email, Entry, Phone

Parts: TypeAlias = dict[str, Any]
Params: TypeAlias = dict[str, list[str]]
Item: TypeAlias = Address | Phone | Email
Told: TypeAlias = tuple[str, Item]

# Where RFC 9554, 2.1 has what an address is made of.
STREET = 2
COMPONENTS = {
    "city": 3,
    "province": 4,
    "pincode": 5,
    "country": 6,
    "unit_number": 8,
    "street_number": 10,
    "street_name": 11,
    "building_name": 12,
    "locality": 15,
}
MOST_COMPONENTS = 18
PARTS = re.compile(r"([0-9]{1,4300})-([0-9]{0,4300})-([0-9]{1,4300})")  # longer than that Python reads no number
CONTROL = re.compile(r"[\0-\x09\x0b-\x1f\x7f]")
FIELDS = {"ADR": "addresses", "EMAIL": "emails", "TEL": "phone_numbers"}
SHAPES: dict[str, type[Item]] = {"ADR": Address, "EMAIL": Email, "TEL": Phone}


def told_by(read: Property) -> Told | None:
    """The array of an entry that a property belongs to, and what it tells there; None where an entry cannot hold it."""
    field = "fax_numbers" if read.name == "TEL" and "fax" in read.types else FIELDS.get(read.name)
    item = None if field is None else _item(read)
    return None if field is None or item is None else (field, item)


def _item(read: Property) -> Item | None:
    parts = parts_of(read)
    try:
        return None if parts is None else msgspec.convert(parts, SHAPES[read.name])
    except msgspec.ValidationError:
        return None


def parts_of(read: Property) -> Parts | None:
    """The item of an entry that a property tells of; None where an entry cannot hold it."""
    kind = next((word for word in read.types if word in {"home", "work"}), "home")
    match read.name:
        case "EMAIL":
            address = plain(read.value).removeprefix("mailto:").strip()
            parts: Parts | None = {"email": address} if address else None
        case "TEL":
            parts = _phone(read)
        case _:
            parts = _address(read)
    return None if parts is None else {"kind": kind, **parts}


def uid_in(card: Iterable[Property]) -> str:
    """The first one that says anything; or nothing."""
    return next(filter(None, (plain(read.value).strip() for read in card if read.name == "UID")), "")


def text_of(read: Property) -> str:
    text = plain(read.value)
    value = _value(text, is_json="X-JSON" in read.params)
    return value if isinstance(value, str) else text


def card_of(entry: Entry, uid: str, card: str | None) -> bytes:
    """A whole vCard 4.0: the lines of `card` that still hold, and what the entry has beside them, in its order."""
    kept = [read_line(line) for line in (card or "").split("\n") if line]
    if not uid_in(kept):
        kept.append(Property("UID", uid))
    told = [(read, told_by(read)) for read in _renamed(kept, entry.full_name)]
    lines_of: defaultdict[Told, deque[Property]] = defaultdict(deque)
    for read, what in told:
        if what is not None:
            lines_of[what].append(read)
    wanted = {
        field: deque(
            same.popleft() if (same := lines_of[field, item]) else _written(field, item)
            for item in getattr(entry, field)
        )
        for field in ("addresses", "phone_numbers", "fax_numbers", "emails")
    }
    stay = {None, *(read.group for each in wanted.values() for read in each)}
    gone = {read.group for each in lines_of.values() for read in each} - stay  # with what is said of them
    lines: list[Property] = []
    for read, what in told:
        if what is None:
            lines += [] if read.group in gone and read.name.startswith("X-") else [read]
        elif wanted[what[0]]:
            lines.append(wanted[what[0]].popleft())
    lines += chain.from_iterable(wanted.values())
    return folded(["BEGIN:VCARD", "VERSION:4.0", *map(written_line, lines), "END:VCARD"])


def _renamed(kept: Sequence[Property], full_name: str) -> list[Property]:
    """With this name first. Where it has changed, the old one in parts is no longer right either."""
    names = [read for read in kept if read.name == "FN"]
    if names and text_of(names[0]) == full_name:
        return [names[0], *(read for read in kept if read is not names[0])]
    text, is_json = _text(full_name)
    return [
        Property("FN", escaped(text), {"X-JSON": ["text"]} if is_json else {}),
        *(read for read in kept if read.name not in {"FN", "N"}),
    ]


def _written(field: str, item: Item) -> Property:
    if isinstance(item, Address):
        return _written_address(item)
    if isinstance(item, Email):
        return Property("EMAIL", escaped(item.email), {"TYPE": [item.kind]})
    return _written_phone(item, is_fax=field == "fax_numbers")


def _written_address(address: Address) -> Property:
    texts, in_json = [""] * MOST_COMPONENTS, []
    for name, place in COMPONENTS.items():
        value = getattr(address, name)
        if value is not UNSET:
            text, is_json = _text(value)
            if is_json and name != "unit_number":  # which is always a number
                in_json.append(name.replace("_", "-"))
            texts[place] = escaped(text)
    if "street-name" not in in_json:  # for programs that know but seven components
        texts[STREET] = " ".join(filter(None, (texts[COMPONENTS["street_name"]], texts[COMPONENTS["street_number"]])))
    params: Params = {"TYPE": [str(address.kind)]} | ({"X-JSON": in_json} if in_json else {})
    return Property("ADR", ";".join(texts), params)


def _address(read: Property) -> Parts | None:
    in_json = {word.lower().replace("-", "_") for text in read.params.get("X-JSON", ()) for word in text.split(",")}
    texts = components(read.value)
    texts += [""] * (MOST_COMPONENTS - len(texts))
    parts: Parts = {}
    for name, place in COMPONENTS.items():
        text = plain(texts[place]) if name in in_json else words(texts[place])
        if text:
            parts[name] = _value(text, is_json=name in in_json or name == "unit_number")
    if "street_name" not in parts and (street := words(texts[STREET])):
        parts["street_name"] = street
    if type(parts.get("unit_number")) not in (int, float):
        parts.pop("unit_number", None)  # "4B", which stays in the card
    return parts if all(parts.get(name) for name in ("street_name", "pincode", "country")) else None


def _written_phone(phone: Phone, *, is_fax: bool) -> Property:
    area = "" if phone.area_code is UNSET else str(phone.area_code)
    number = f"tel:+{phone.country_code}{area}{phone.local_number}"
    params: Params = {"TYPE": [phone.kind, "fax"] if is_fax else [phone.kind], "VALUE": ["uri"]}
    read = Property("TEL", number, params)
    if _item(read) == phone:
        return read
    return Property("TEL", number, params | {"X-PARTS": [f"{phone.country_code}-{area}-{phone.local_number}"]})


def _phone(read: Property) -> Parts | None:
    """A number in its parts. One without a country, or one too short for one, an entry cannot hold."""
    text = plain(read.value).strip().removeprefix("tel:")
    if (parts := _told_parts(read, text)) is not None:
        return parts
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    if not number.national_number or not phonenumbers.is_possible_number(number):
        return None
    national = str(number.national_number)
    parts = {"country_code": number.country_code, "local_number": number.national_number}
    if number.italian_leading_zero:
        # dialled with its zeros, of which a number can hold but one, as an area of its own
        return parts | {"area_code": 0} if (number.number_of_leading_zeros or 1) == 1 else None
    length = phonenumbers.length_of_geographical_area_code(number)
    local = national[length:]
    if length and local and not local.startswith("0"):
        parts |= {"area_code": int(national[:length]), "local_number": int(local)}
    return parts


def _told_parts(read: Property, text: str) -> Parts | None:
    """The parts that we wrote beside a number, where they still are the number."""
    told = PARTS.fullmatch(read.first("X-PARTS") or "")
    if told is None or "+" + "".join(told.groups()) != text:
        return None
    country, area, local = told.groups()
    return {"country_code": int(country), "local_number": int(local)} | ({"area_code": int(area)} if area else {})


def _text(value: str | float) -> tuple[str, bool]:
    """A value as text, and whether that text is JSON: else a number, nothing, or what a line cannot hold were lost."""
    if isinstance(value, str) and value and not CONTROL.search(value) and value == value.strip():
        return value, False
    return msgspec.json.encode(value).decode(), True


def _value(text: str, *, is_json: bool) -> Any:
    if not is_json:
        return text
    try:
        return msgspec.json.decode(text)
    except FAULTS:
        return text
