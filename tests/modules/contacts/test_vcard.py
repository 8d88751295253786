"""Rules of vCards: lines, and entries that come back whatever they hold."""

import json
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.modules.contacts.made_up import documents

from kinfolk.kit.documents import read_json
from kinfolk.modules.contacts.card_files import id_of, read_cards, uid_of
from kinfolk.modules.contacts.card_lines import LineError, Property, folded, read_line, unfolded, written_line
from kinfolk.modules.contacts.contacts import Entry, NewContact, Refused
from kinfolk.modules.contacts.vcard import card_of, parts_of, told_by

ID = "0" * 31 + "1"


@settings(max_examples=80, deadline=None)
@given(documents())
def test_an_entry_comes_back_from_its_card(document: Any) -> None:
    entry = read_json(json.dumps(document).encode(), Entry)
    (read,) = read_cards(card_of(entry, uid_of(ID), None))
    assert isinstance(read, NewContact), read
    assert (read.contact_id, read.entry) == (ID, entry)
    assert card_of(entry, uid_of(ID), read.card) == card_of(read.entry, uid_of(ID), read.card)


@settings(max_examples=60, deadline=None)
@given(documents(), documents(), st.randoms(use_true_random=False))
def test_what_replaced_an_entry_comes_back_in_its_order(first: Any, second: Any, chosen: Random) -> None:
    """However much of the card that the first came with still holds."""
    for field in ("addresses", "phone_numbers", "fax_numbers", "emails"):
        both = [*first[field], *second[field], *first[field]]
        second[field] = chosen.sample(both, chosen.randint(0, len(both)))
    entries = [read_json(json.dumps(document).encode(), Entry) for document in (first, second)]
    (came,) = read_cards(card_of(entries[0], uid_of(ID), None))
    assert isinstance(came, NewContact)
    (back,) = read_cards(card_of(entries[1], uid_of(ID), came.card))
    assert isinstance(back, NewContact)
    assert (back.contact_id, back.entry) == (ID, entries[1])


NAMES = ("FN", "N", "ORG", "ADR", "TEL", "EMAIL", "UID", "PHOTO", "NOTE", "a.TEL", "a.X-ABLABEL", "X-A")
PARAMS = (
    *("", "", ";TYPE=home", ";TYPE=fax", ";WORK", ";PREF=1", ';A="x;y"', ";X-JSON=text", ";X-JSON=pincode,city"),
    *(";X-JSON=unit-number", ";X-PARTS=44-x-1", ";X-PARTS=44--1", ";ENCODING=b", ";ENCODING=QUOTED-PRINTABLE"),
)
BITS = (
    *(";", ";;", ",", "\\", "\\n", "\\,", ":", " ", "+44", "+44x1", "+441", "1134960001", "0", "-1", "4.5", "1e999"),
    *("9" * 4_301, "null", "true", '"', '"s"', "[" * 3_000, "{}", "=41", "=", "=00", "QUJD", "a@example.com", "tel:"),
    *("Дом", "\u0301", "\u00b2", "\u0664"),
)
LINES = st.builds(
    "{}{}:{}".format,
    st.sampled_from(NAMES),
    st.sampled_from(PARAMS),
    st.lists(st.sampled_from(BITS), max_size=14).map("".join),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=5))
def test_whatever_a_card_says_it_is_refused_or_comes_back(lines: list[str]) -> None:
    (came,) = read_cards("\n".join(["BEGIN:VCARD", "VERSION:4.0", "FN:Anna", *lines, "END:VCARD"]).encode())
    if isinstance(came, Refused):
        assert came.errors
        return
    for entry in (came.entry, structs.replace(came.entry, full_name="Vera", phone_numbers=[], emails=[])):
        written = card_of(entry, uid_of(came.contact_id), came.card)
        (back,) = read_cards(written)
        assert isinstance(back, NewContact), back
        assert (back.contact_id, back.entry) == (came.contact_id, entry)
        assert card_of(back.entry, uid_of(ID), back.card) == written


TRAPS = {
    "nested": "FN;X-JSON=text:" + "[" * 3_000,
    "a nested part": "ADR;X-JSON=pincode:;;s;;;" + "[" * 3_000 + ";L",
    "no number": "ADR:;;s;;;1;L;;1e999;;;x",
    "a long number": "ADR:;;s;;;1;L;;" + "9" * 4_301 + ";;;x",
    "a number told to be JSON": "ADR;X-JSON=unit-number:;;s;;;1;L;;4;;;x",
    "letters for an area": "TEL;X-PARTS=44-x-1134960001:+44x1134960001",
    "what is a digit elsewhere": "TEL;X-PARTS=44-²-1:tel:+44²1",
    "a longer number": f"TEL;X-PARTS={'1' * 4_301}--1:+{'1' * 4_302}",
}


@pytest.mark.parametrize("line", TRAPS.values(), ids=TRAPS)
def test_what_is_told_of_a_value_may_be_a_lie(line: str) -> None:
    (came,) = read_cards("\n".join(["BEGIN:VCARD", "VERSION:4.0", "FN:Anna", line, "END:VCARD"]).encode())
    assert isinstance(came, NewContact)
    assert line in card_of(came.entry, uid_of(ID), came.card).decode().replace("\r\n ", "")


def test_what_is_said_of_a_line_goes_with_the_last_of_its_group() -> None:
    lines = ["a.EMAIL;TYPE=home:a@example.com", "a.TEL;TYPE=home:+441134960001", "a.X-ABLABEL:boat", "b.X-ABLABEL:car"]
    uid = "a.UID:1"
    (came,) = read_cards("\n".join(["BEGIN:VCARD", "VERSION:4.0", "FN:Anna", uid, *lines, "END:VCARD"]).encode())
    assert isinstance(came, NewContact)
    for numbers, emails, stay in (
        (came.entry.phone_numbers, [], [lines[1], lines[2], lines[3]]),
        ([], came.entry.emails, [lines[0], lines[2], lines[3]]),
        ([], [], [lines[3]]),
    ):
        entry = structs.replace(came.entry, phone_numbers=numbers, emails=emails)
        written = card_of(entry, uid_of(ID), came.card).decode().split("\r\n")
        assert written == ["BEGIN:VCARD", "VERSION:4.0", "FN:Anna", uid, *stay, "END:VCARD", ""]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1), max_size=4))
def test_what_is_folded_unfolds(lines: list[str]) -> None:
    lines = [f"X:{line}" for line in lines]
    written = folded(lines)
    assert all(len(piece) <= 75 and piece.decode() for piece in written.split(b"\r\n") if piece)
    assert list(unfolded(written.decode())) == lines


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("FN:a:b;c", Property("FN", "a:b;c")),
        ("fn;language=de:x", Property("FN", "x", {"LANGUAGE": ["de"]})),
        ("a.TEL;TYPE=HOME;TYPE=voice,X:1", Property("TEL", "1", {"TYPE": ["home", "voice", "x"]}, "a")),
        ("TEL;HOME;PREF:1", Property("TEL", "1", {"PREF": ["1"], "TYPE": ["home"]})),
        ('TEL;TYPE="home,work";PREF=7:1', Property("TEL", "1", {"PREF": ["7"], "TYPE": ["home", "work"]})),
        ("TEL;TYPE=:1", Property("TEL", "1")),
        ('A;B="x;y:z=,":1', Property("A", "1", {"B": ["x;y:z=,"]})),
        ("N;encoding=quoted-printable;charset=latin1:=E4=3B;b", Property("N", "ä;;b")),
        ("NOTE;QUOTED-PRINTABLE:a=0D=0Ab", Property("NOTE", "a\\nb")),
        ("PHOTO;ENCODING=b;TYPE=JPEG:QUJ D", Property("PHOTO", "data:image/jpeg;base64,QUJD")),
        ("LOGO;BASE64;GIF:QUJD", Property("LOGO", "data:image/gif;base64,QUJD")),
        ("KEY;ENCODING=BASE64:QUJD", Property("KEY", "data:application/octet-stream;base64,QUJD")),
        ("PHOTO;ENCODING=b;TYPE=image/png:QUJD", Property("PHOTO", "data:image/png;base64,QUJD")),
        ("PHOTO;VALUE=uri:https://example.com/a.png", Property("PHOTO", "https://example.com/a.png")),
        ("X-A;ENCODING=b:QUJD", Property("X-A", "QUJD", {"ENCODING": ["b"]})),
    ],
)
def test_lines_become_those_of_4_0(line: str, read: Property) -> None:
    assert read_line(line) == read
    assert read_line(written_line(read)) == read


@pytest.mark.parametrize("line", ["FN", "F N:x", ":x", 'FN;A="b:x', "FN;=b:x", "a.b.FN:x", "FN;A=b;:x"])
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(LineError):
        read_line(line)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A:1\r\n 2\r\n\t3\nB:4\rC:5", ["A:123", "B:4", "C:5"]),
        (" A:1", [" A:1"]),
        ("A;QUOTED-PRINTABLE:1=\n2=\n 3\nB:=\nC:1", ["A;QUOTED-PRINTABLE:12 3", "B:=", "C:1"]),
        ("\n\nA:1\n\n\nB:2\n\n", ["A:1", "B:2"]),
        ("A;ENCODING=QUOTED-PRINTABLE:1=", ["A;ENCODING=QUOTED-PRINTABLE:1="]),
    ],
)
def test_lines_are_unfolded(text: str, lines: list[str]) -> None:
    assert list(unfolded(text)) == lines


PHONES: dict[str, dict[str, int] | None] = {
    "+441134960001": {"country_code": 44, "area_code": 113, "local_number": 4960001},
    "tel:+1-201-555-0123;ext=5": {"country_code": 1, "area_code": 201, "local_number": 5550123},
    "+44 7700 900123": {"country_code": 44, "local_number": 7700900123},
    "+39 06 1234 5678": {"country_code": 39, "area_code": 0, "local_number": 612345678},
    "+39 00 6123 4567": None,
    "030 123456": None,
    "+123": None,
    "+999 123456": None,
    "*100#": None,
    "": None,
}


@pytest.mark.parametrize(("text", "parts"), PHONES.items(), ids=PHONES)
def test_a_number_is_taken_apart(text: str, parts: dict[str, int] | None) -> None:
    assert parts_of(Property("TEL", text)) == (None if parts is None else {"kind": "home"} | parts)


@pytest.mark.parametrize("told", ["44-113", "44-113-496000", "44--1134960002", "x-113-4960001", "44-x-1134960001"])
def test_parts_that_are_not_the_number_are_not_believed(told: str) -> None:
    parts = parts_of(Property("TEL", "+441134960001", {"X-PARTS": [told]}))
    assert parts == {"kind": "home", "country_code": 44, "area_code": 113, "local_number": 4960001}


@pytest.mark.parametrize(
    ("value", "params", "held"),
    [
        (";;Street 1;Town;;1;Land", {}, {"street_name": "Street 1", "city": "Town", "pincode": "1", "country": "Land"}),
        (";;a,b;;;1\\,2;Land", {}, {"street_name": "a, b", "pincode": "1,2", "country": "Land"}),
        (";;;;;1;L;;4B;;;s", {}, {"street_name": "s", "pincode": "1", "country": "L"}),
        (";;;;;1;L;;4.5;;;s", {}, {"street_name": "s", "pincode": "1", "country": "L", "unit_number": 4.5}),
        (";;s;;;1;L", {"X-JSON": ["pincode"]}, {"street_name": "s", "pincode": 1, "country": "L"}),
        (";;s;;;x;L", {"X-JSON": ["pincode"]}, {"street_name": "s", "pincode": "x", "country": "L"}),
        (";;s;;;[1];L", {"X-JSON": ["pincode"]}, None),
        (";;s;;;;L", {}, None),
        ("", {}, None),
        (";" * 30, {}, None),
    ],
)
def test_an_address_is_held_where_it_has_all_that_it_needs(
    value: str, params: Any, held: dict[str, Any] | None
) -> None:
    told = told_by(Property("ADR", value, params))
    assert (told and msgspec.to_builtins(told)) == (held and ("addresses", {"kind": "home"} | held))


@pytest.mark.parametrize("lines", [["UID:"], ["UID: ", "UID:5"], ["UID:5", "UID:6"], ["NOTE:x"]], ids=str)
def test_what_was_given_out_is_known_whatever_it_says_now(lines: list[str]) -> None:
    (came,) = read_cards("\n".join(["BEGIN:VCARD", "VERSION:4.0", "NOTE:y", "FN:Anna", *lines, "END:VCARD"]).encode())
    assert isinstance(came, NewContact)
    renamed = structs.replace(came.entry, full_name="Vera")
    (back,) = read_cards(card_of(renamed, uid_of(came.contact_id), came.card))
    assert isinstance(back, NewContact)
    assert (back.contact_id, back.entry) == (came.contact_id, renamed)


def test_ids_of_cards() -> None:
    plain = "5AF07C1E-0B0E-4D2C-9F6B-0A5D8E1C2B3F"
    assert id_of(plain) == id_of(f"urn:uuid:{plain.lower()}") == plain.replace("-", "").lower()
    assert id_of(uid_of(ID)) == ID
    assert id_of(f"{plain}:ABPerson") != id_of(plain)
    one, two = (read_cards(f"BEGIN:VCARD\nVERSION:3.0\nFN:A\nREV:{rev}\nEND:VCARD".encode()) for rev in (1, 2))
    assert [each.contact_id for each in one] == [each.contact_id for each in two]
