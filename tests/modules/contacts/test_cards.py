"""vCards through the front door: in, out, and in again with nothing lost."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.modules.contacts.entries import FACES, NOBODY, WHOLE, add, an_entry, refusal

from kinfolk.modules.contacts.contacts import LARGEST_ENTRY_BYTES

CARDS = Path(__file__).parent / "cards"
CARD = {"content-type": "text/vcard"}
AS_CARD = {"accept": "text/vcard"}
UID = "urn:uuid:0d8e7a3c-2f4b-4c5d-8e9f-1a2b3c4d5e6f"


def card(*lines: str, version: str = "4.0", name: str = "FN:Anna") -> bytes:
    return "\r\n".join(["BEGIN:VCARD", f"VERSION:{version}", name, *lines, "END:VCARD", ""]).encode()


async def post(client: httpx.AsyncClient, body: bytes, face: str = "") -> httpx.Response:
    return await client.post(f"{face}/addresses", content=body, headers=CARD)


async def taken(client: httpx.AsyncClient, body: bytes) -> dict[str, Any]:
    answer = await post(client, body)
    assert answer.status_code in {200, 201}, answer.text
    if answer.status_code == 201:
        return {"added": [answer.headers["location"].rpartition("/")[2]], "known": [], "refused": []}
    return answer.json()


async def exported(client: httpx.AsyncClient, contact_id: str) -> str:
    answer = await client.get(f"/addresses/{contact_id}", headers=AS_CARD)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/vcard; charset=utf-8")
    return answer.text


def unfolded(text: str) -> list[str]:
    return text.replace("\r\n ", "").split("\r\n")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("program", ["apple", "google", "outlook", "nextcloud"])
async def test_what_a_program_exported_comes_back(client: httpx.AsyncClient, program: str) -> None:
    file = (CARDS / f"{program}.vcf").read_bytes()
    first = await taken(client, file)
    assert first["added"]
    assert first["refused"] == []
    assert await taken(client, file) == {"added": [], "known": first["added"], "refused": []}
    for contact_id in first["added"]:
        place = f"/addresses/{contact_id}"
        entry, out = (await client.get(place)).json(), await exported(client, contact_id)
        assert max(len(line.encode()) for line in out.split("\r\n")) <= 75
        assert (await taken(client, out.encode()))["known"] == [contact_id]
        assert (await client.delete(place)).status_code == 204
        assert (await taken(client, out.encode()))["added"] == [contact_id]
        assert (await client.get(place)).json() == entry
        assert await exported(client, contact_id) == out


HELD: dict[str, dict[str, Any]] = {
    "apple": {
        "full_name": "Anna Arkadyevna Karenina",
        "addresses": [
            {
                "kind": "home",
                "street_name": "14 Park Row\nFlat 2",
                "city": "Leeds",
                "province": "West Yorkshire",
                "pincode": "LS1 5HD",
                "country": "United Kingdom",
            }
        ],
        "phone_numbers": [
            {"kind": "home", "country_code": 44, "local_number": 7700900123},
            {"kind": "home", "country_code": 44, "area_code": 113, "local_number": 4960001},
            {"kind": "home", "country_code": 1, "area_code": 212, "local_number": 5550123},
        ],
        "fax_numbers": [{"kind": "work", "country_code": 44, "area_code": 113, "local_number": 4960002}],
        "emails": [
            {"kind": "home", "email": "anna@example.com"},
            {"kind": "work", "email": "anna.karenina@example.org"},
            {"kind": "home", "email": "annie@example.net"},
        ],
    },
    "outlook": {
        "full_name": "Dr. Jürgen Müller, der seinen Namen über zwei Zeilen trägt",
        "addresses": [
            {
                "kind": "work",
                "street_name": "Hauptstraße 5\nHinterhaus",
                "city": "Berlin",
                "pincode": "10115",
                "country": "Deutschland",
            }
        ],
        "phone_numbers": [
            {"kind": "work", "country_code": 49, "area_code": 30, "local_number": 901820},
            {"kind": "home", "country_code": 49, "local_number": 1711234567},
        ],
        "fax_numbers": [{"kind": "work", "country_code": 49, "area_code": 30, "local_number": 901821}],
        "emails": [{"kind": "home", "email": "j.mueller@example.de"}],
    },
    "nextcloud": {
        "full_name": "Konstantin Levin",
        "addresses": [
            {
                "kind": "home",
                "building_name": "Main house",
                "unit_number": 4,
                "street_number": "3",
                "street_name": "Lesnaya",
                "locality": "Upper village",
                "city": "Pokrovskoye",
                "province": "Tula",
                "pincode": "301213",
                "country": "Russia",
            }
        ],
        "phone_numbers": [{"kind": "home", "country_code": 7, "area_code": 495, "local_number": 7654321}],
        "fax_numbers": [{"kind": "work", "country_code": 7, "area_code": 495, "local_number": 7654322}],
        "emails": [{"kind": "home", "email": "levin@example.ru"}],
    },
}
BESIDE = {
    "apple": [
        "TEL;PREF=1;TYPE=cell,voice:+44 7700 900123",
        "item2.X-ABLABEL:boat",
        "N:Karenina;Anna;Arkadyevna;;",
        "NOTE:Two lines\\,\\nand a semicolon\\; here",
        "UID:5AF07C1E-0B0E-4D2C-9F6B-0A5D8E1C2B3F:ABPerson",
    ],
    "outlook": [
        "N;LANGUAGE=de:Müller;Jürgen;;Dr.",
        "TEL;TYPE=pager:+49 171 1234567",
        "ADR;PREF=1;TYPE=work:;3. Stock;Hauptstraße 5\\nHinterhaus;Berlin;;10115;Deutschland",
        "NOTE:Ruft nach 14 Uhr an\\n\\n",
        'X-MS-OL-DESIGN:<card xmlns="x" a="1,2;3"/>',
    ],
    "nextcloud": ["FN:Kostya", "GENDER:M", "ADR;TYPE=work:;;;Moscow;;;", "N:Levin;Konstantin;Dmitrich,D.;;"],
}


@pytest.mark.parametrize("program", HELD)
async def test_what_an_entry_holds_of_it_and_what_lies_beside(client: httpx.AsyncClient, program: str) -> None:
    found = await taken(client, (CARDS / f"{program}.vcf").read_bytes())
    (contact_id,) = found["added"] or found["known"]
    entry = (await client.get(f"/addresses/{contact_id}")).json()
    assert entry == {"phone_numbers": [], "fax_numbers": [], **HELD[program]}
    lines = unfolded(await exported(client, contact_id))
    assert lines[:2] == ["BEGIN:VCARD", "VERSION:4.0"]
    assert [line for line in BESIDE[program] if line not in lines] == []
    assert any(line.startswith(("PHOTO:data:image/", "PHOTO;X-ABCROP")) and "base64,AAEC" in line for line in lines)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("face", FACES)
async def test_one_new_card_is_as_one_new_entry(client: httpx.AsyncClient, face: str) -> None:
    one = card(f"UID:{UID}", "TEL;TYPE=work:+441134960001")
    added = await post(client, one, face)
    contact_id = UID.removeprefix("urn:uuid:").replace("-", "")
    assert (added.status_code, added.content) == (201, b"")
    assert added.headers["location"] == f"{face}/addresses/{contact_id}"
    found = await client.get(added.headers["location"])
    assert found.json()["phone_numbers"] == [
        {"kind": "work", "country_code": 44, "area_code": 113, "local_number": 4960001}
    ]
    again = await post(client, one.replace(b"FN:Anna", b"FN:Vera"), face)
    assert (again.status_code, again.json()) == (200, {"added": [], "known": [contact_id], "refused": []})
    assert (await client.get(added.headers["location"])).json()["full_name"] == "Anna"


@pytest.mark.usefixtures("store")
async def test_of_several_the_good_ones_are_taken(client: httpx.AsyncClient) -> None:
    bad = card("EMAIL:a@b", "EMAIL:b@example.com", "EMAIL:@", version="3.0")
    file = card(name="FN:Olga") + bad + card("UID:1") + card("UID:1", name="FN:Vera") + card(version="5.0", name="X:1")
    found = await taken(client, file)
    assert [len(found[what]) for what in ("added", "known", "refused")] == [2, 1, 2]
    assert found["known"] == found["added"][1:]
    assert [(one["card"], [error["pointer"] for error in one["errors"]]) for one in found["refused"]] == [
        (2, ["/emails/0/email", "/emails/2/email"]),
        (5, ["", "/full_name"]),
    ]
    listed = (await client.get("/addresses")).json()
    assert {entry["full_name"] for entry in listed.values()} == {"Olga", "Anna"}
    alone = await post(client, bad)
    assert refusal(alone) == (400, "invalid-card", ["/emails/0/email", "/emails/2/email"])


@pytest.mark.usefixtures("store")
async def test_every_part_of_an_entry_comes_back(client: httpx.AsyncClient) -> None:
    place = await add(client, WHOLE)
    contact_id = place.rpartition("/")[2]
    out = await exported(client, contact_id)
    assert (await taken(client, out.encode()))["known"] == [contact_id]
    assert (await client.delete(place)).status_code == 204
    assert (await taken(client, out.encode()))["added"] == [contact_id]
    assert (await client.get(place)).json() == WHOLE


@pytest.mark.usefixtures("store")
async def test_what_is_replaced_is_replaced_in_the_card(client: httpx.AsyncClient) -> None:
    lines = ("N:K;Anna;;;", "NOTE:stays", "a.TEL;TYPE=cell:+441134960001", "a.X-ABLABEL:boat", "EMAIL:anna@example.com")
    added = await taken(client, card("UID:x", *lines))
    place = f"/addresses/{added['added'][0]}"
    entry = (await client.get(place)).json()
    assert (await client.put(place, json=entry)).status_code == 204
    assert set(lines) <= set(unfolded(await exported(client, added["added"][0])))
    changed = entry | {"phone_numbers": [], "full_name": "Vera", "emails": [{"kind": "home", "email": "v@example.com"}]}
    assert (await client.put(place, json=changed)).status_code == 204
    now = unfolded(await exported(client, added["added"][0]))[2:-2]
    assert sorted(now) == ["EMAIL;TYPE=home:v@example.com", "FN:Vera", "NOTE:stays", "UID:x"]


@pytest.mark.parametrize(
    ("accept", "is_card"),
    [
        ("text/vcard", True),
        ("TEXT/VCARD", True),
        ("text/vcard;q=0.9, application/json;q=0.1", True),
        ("text/vcard;q=0.1, application/json", False),
        ("text/vcard, */*;q=0.1", True),
        ("text/vcard, */*", True),
        ("text/vcard, application/json", True),
        ("application/json, text/vcard", False),
        ("text/*", True),
        ("text/*;q=0.3, */*;q=0.5", False),
        ("text/vcard;q=0", False),
        ("text/vcard; q=0.000, */*", False),
        ("text/vcard;version=4.0;q=1;x=y", True),
        ("text/vcard;q=inf", True),
        ("*/*", False),
        ("application/json", False),
        ("text/html", False),
        ("text/html;q=0.9, text/*;q=0", False),
        ("", False),
    ],
)
async def test_who_asks_for_a_card_gets_one(client: httpx.AsyncClient, accept: str, is_card: bool) -> None:
    place = await add(client)
    answer = await client.get(place, headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/vcard" if is_card else "application/json")
    assert "Accept" in answer.headers.get_list("vary", split_commas=True)
    other = await client.get(place, headers={"accept": "application/json" if is_card else "text/vcard"})
    assert other.headers["etag"] != answer.headers["etag"]
    seen = await client.get(place, headers={"accept": accept, "if-none-match": answer.headers["etag"]})
    assert seen.status_code == 304
    assert (
        await client.put(place, json=an_entry("V"), headers={"if-match": answer.headers["etag"]})
    ).status_code == 204
    assert (await client.delete(place, headers={"if-match": answer.headers["etag"]})).status_code == 412


async def test_a_card_of_nobody(client: httpx.AsyncClient) -> None:
    assert refusal(await client.get(f"/addresses/{NOBODY}", headers=AS_CARD))[:2] == (404, "no-such-contact")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "malformed-cards"),
    "no card": (lambda: b'{"full_name":"Anna"}', "malformed-cards"),
    "half of UTF-16": (lambda: b"\xff\xfe" + b"B\0E", "malformed-cards"),
    "no end": (lambda: card().replace(b"END:VCARD", b"X:1"), "invalid-card"),
    "no version": (lambda: card().replace(b"VERSION:4.0\r\n", b""), "invalid-card"),
    "a version to come": (lambda: card(version="5.0"), "invalid-card"),
    "two versions": (lambda: card("VERSION:3.0"), "invalid-card"),
    "no name": (lambda: card(name="NOTE:x"), "invalid-card"),
    "an empty name": (lambda: card(name="FN: "), "invalid-card"),
    "NUL": (lambda: card("NOTE:a\0b"), "invalid-card"),
    "half a pair": (lambda: card().replace(b"Anna", b"\xed\xa0\x80"), "invalid-card"),
    "another coding": (lambda: card(name="FN:Jürgen").decode().encode("latin-1"), "invalid-card"),
    "no line": (lambda: card("what is this"), "invalid-card"),
    "a thousand commas": (lambda: card("A;B=" + "," * 1_000), "invalid-card"),
    "an open quotation": (lambda: card('A;B="' + "x," * 50_000 + ":1"), "invalid-card"),
    "an unknown charset": (lambda: card("NOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=x:=41"), "invalid-card"),
    "two codings": (lambda: card("NOTE;ENCODING=QUOTED-PRINTABLE;ENCODING=b:=41"), "invalid-card"),
    "another NUL": (lambda: card("NOTE;ENCODING=QUOTED-PRINTABLE:a=00b"), "invalid-card"),
    "more than an entry": (lambda: card(name="FN:" + "x" * LARGEST_ENTRY_BYTES), "invalid-card"),
}


@pytest.mark.parametrize(("make", "kind"), REFUSED.values(), ids=REFUSED)
async def test_what_is_no_card(client: httpx.AsyncClient, make: Callable[[], bytes], kind: str) -> None:
    before = (await client.get("/addresses")).headers["etag"]
    assert refusal(await post(client, make()))[:2] == (400, kind)
    assert (await client.get("/addresses")).headers["etag"] == before


@pytest.mark.parametrize(
    ("line", "full_name"),
    [("FN:\r\nORG:Werk\\, GmbH;Einkauf", "Werk, GmbH Einkauf"), ("N:K;Anna;B.;Dr.;jr.", "Dr. Anna B. K jr.")],
)
async def test_a_card_without_a_name_of_its_own(client: httpx.AsyncClient, line: str, full_name: str) -> None:
    found = await taken(client, card(name=line, version="3.0"))
    (contact_id,) = found["added"] or found["known"]
    assert (await client.get(f"/addresses/{contact_id}")).json()["full_name"] == full_name


async def test_a_card_within_a_card_is_the_end_of_the_first(client: httpx.AsyncClient) -> None:
    found = await taken(client, b"BEGIN:VCARD\nVERSION:3.0\nFN:Boss\nAGENT:\n" + card("UID:agent", version="3.0"))
    assert ([one["card"] for one in found["refused"]], len(found["added"] + found["known"])) == ([1], 1)


@pytest.mark.parametrize("version", ["2.1", "3.0", "4.0"])
async def test_every_version_and_file_of_wide_letters(client: httpx.AsyncClient, version: str) -> None:
    one = card(f"UID:wide-{version}", "TEL;HOME;FAX:+1 212 555 0123", version=version, name="N:Каренина;Анна;;г-жа;")
    found = await taken(client, "junk before\r\n".encode("utf-16") + one.decode().encode("utf-16-le") + b"\n\0\n\0")
    (contact_id,) = found["added"] or found["known"]
    entry = (await client.get(f"/addresses/{contact_id}")).json()
    assert entry["full_name"] == "г-жа Анна Каренина"
    assert [phone["local_number"] for phone in entry["fax_numbers"]] == [5550123]


@pytest.mark.usefixtures("store")
async def test_a_large_file(client: httpx.AsyncClient) -> None:
    """It is read by another process; a picture of a megabyte is no trouble."""
    picture = "\r\n ".join(["PHOTO;ENCODING=b;TYPE=PNG:", *["A" * 72] * 20_000])
    file = b"".join(card(f"UID:many-{number}", name=f"FN:{number}") for number in range(150))
    found = await taken(client, card(picture, "UID:picture", version="3.0") + file)
    assert (len(found["added"]), found["known"], found["refused"]) == (151, [], [])
    assert len((await client.get("/addresses")).json()) == 151
    lines = unfolded(await exported(client, found["added"][0]))
    assert [len(line) for line in lines if line.startswith("PHOTO:")] == [
        len("PHOTO:data:image/png;base64,") + 72 * 20_000
    ]


async def test_too_many_cards(client: httpx.AsyncClient) -> None:
    file = b"BEGIN:VCARD\nEND:VCARD\n" * 50_001
    assert refusal(await post(client, file))[:2] == (413, "too-many-cards")


async def test_bodies_are_bounded(client: httpx.AsyncClient) -> None:
    """JSON at 1 MiB, files of cards at 16, the same after gunzip."""
    largest, packed = b'{"full_name":"a"}'.ljust(1_048_576), {"content-encoding": "gzip"}
    for wrong, headers in ((largest + b" ", {}), (gzip.compress(largest + b" ", 1), packed)):
        answer = await client.post("/addresses", content=wrong, headers=headers)
        assert refusal(answer)[:2] == (413, "body-too-large")
    assert (await client.post("/addresses", content=largest)).status_code == 201
    for wrong, headers in ((b" " * 16_777_217, {}), (gzip.compress(b" " * 16_777_217, 1), packed)):
        answer = await client.post("/addresses", content=wrong, headers=CARD | headers)
        assert refusal(answer)[:2] == (413, "body-too-large")
    assert refusal(await post(client, b" " * 16_777_216))[:2] == (400, "malformed-cards")


LAZY = """
import asyncio, sys
from kinfolk.app import MODULES
from kinfolk.modules.contacts import cards
from kinfolk.modules.contacts.memory_store import MemoryStore

for module in MODULES:
    module.handlers()
print([name for name in ("vobject", "phonenumbers", "dns", "pytz") if name in sys.modules])
cards.load()
sys.meta_path.clear()
card = (
    b"BEGIN:VCARD\\nVERSION:3.0\\nFN;CHARSET=latin1;QUOTED-PRINTABLE:=E4\\n"
    b"TEL:+3725123456\\nTEL:+441134960001\\nEMAIL:a@example.com\\nEND:VCARD"
)
taken = asyncio.run(cards.take_cards(MemoryStore(), card))
print(len(taken.added))
"""


def test_what_reads_cards_is_loaded_by_the_first_card_or_when_told() -> None:
    """Once told, nothing more need be found on the disk."""
    ended = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr[-400:]) == ("[]\n1\n", "")
