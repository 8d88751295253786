"""A register as a supplier sends it, a correction as a client sends it: their shapes, and what makes them right.

The common case is fast: 10,000 right citizens are checked by whole columns, in less time than msgspec takes to decode
them. Whatever that cannot prove to be right is examined, and every bad place named.
"""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from mmap import mmap
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from kinfolk.kit.documents import examine, read_at_a_glance, read_json
from kinfolk.kit.problems import InvalidDocument
from kinfolk.kit.shapes import BadPlaces, Doubled
from kinfolk.modules.citizens.kinship import Kin, Tie, kinship_faults, repeats, two_way_ties

MOST_CITIZENS = 10_000
LARGEST_REGISTER_BYTES = 70_000_000
LARGEST_ID = 2**63 - 1
LETTER_OR_DIGIT = re.compile(r"[^\W_]")  # the same characters as str.isalnum
WRITTEN_DATE = re.compile(r"[0-9]{2}\.[0-9]{2}\.[0-9]{4}")
MOST_DATES_REMEMBERED = 100_000
WORDS_OF_A_CITIZEN = 15
"""Nine names and six strings: what stands in quotation marks."""

Row = tuple[int, str, str, str, int, str, date, str]
"""citizen_id, town, street, building, apartment, name, birth_date, gender: a row of the table, without import_id."""


class InvalidCitizens(InvalidDocument):
    """The citizens break the rules."""


class Dates(dict[str, date]):
    """Dates by how they are written: a life's 30,000 days come again and again, and reading one takes ten look-ups."""

    def __missing__(self, written: str) -> date:
        if not WRITTEN_DATE.fullmatch(written):
            raise ValueError("must be written DD.MM.YYYY")
        try:
            day = date(int(written[6:]), int(written[3:5]), int(written[:2]))
        except ValueError:
            raise ValueError(f"{written} does not exist") from None
        if len(self) >= MOST_DATES_REMEMBERED:
            self.clear()
        self[written] = day
        return day


DATES = Dates()


def letter_fault(text: str) -> str | None:
    return None if LETTER_OR_DIGIT.search(text) else "must have at least one letter or digit"


def blank_fault(text: str) -> str | None:
    return "must not be only white space" if text.isspace() else None


def date_fault(written: str) -> str | None:
    try:
        DATES[written]
    except ValueError as error:
        return str(error)
    return None


Number = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
Place = Annotated[str, Meta(min_length=1, max_length=256, extra={"rule": letter_fault})]
CitizenId = Annotated[Number, Meta(description="Unique in its import.", examples=[1])]
Town = Annotated[Place, Meta(examples=["Москва"])]
Street = Annotated[Place, Meta(examples=["Льва Толстого"])]
Building = Annotated[Place, Meta(examples=["16к7стр5"])]
Apartment = Annotated[Number, Meta(examples=[7])]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="Not only white space.",
        examples=["Иванов Иван Иванович"],
        extra={"rule": blank_fault},
    ),
]
BirthDate = Annotated[
    str,
    Meta(
        description="DD.MM.YYYY, an existing date before today (UTC).",
        examples=["26.12.1986"],
        extra={"rule": date_fault},
        extra_json_schema={"pattern": r"^[0-9]{2}\.[0-9]{2}\.[0-9]{4}$"},  # for OpenAPI; nobody runs it
    ),
]
Gender = Literal["male", "female"]
Relatives = Annotated[
    list[Number],
    Meta(
        max_length=MOST_CITIZENS,
        description="Unique ids of citizens of the same import, each of whom lists this one too.",
        examples=[[2]],
        extra_json_schema={"uniqueItems": True},
    ),
]


class Citizen(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A citizen, coming in or going out."""

    citizen_id: CitizenId
    town: Town
    street: Street
    building: Building
    apartment: Apartment
    name: Name
    birth_date: BirthDate
    gender: Gender
    relatives: Relatives


class NewImport(Struct, frozen=True, forbid_unknown_fields=True):
    citizens: Annotated[list[Citizen], Meta(max_length=MOST_CITIZENS)]


class CitizenChange(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Any of a citizen's fields but citizen_id, and at least one. Relatives replace the whole list."""

    town: Town | UnsetType = UNSET
    street: Street | UnsetType = UNSET
    building: Building | UnsetType = UNSET
    apartment: Apartment | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    birth_date: BirthDate | UnsetType = UNSET
    gender: Gender | UnsetType = UNSET
    relatives: Relatives | UnsetType = UNSET


class Register(Struct, frozen=True):
    """A right register, ready for binary COPY."""

    citizens: list[Row]
    ties: list[Tie]
    """Each tie once."""


class Correction(Struct, frozen=True):
    """A right change, ready for SQL."""

    columns: dict[str, str | int | date]
    """The columns of the citizen's own row, and their new values."""
    relatives: list[int] | None
    """Whom to be tied to from now on, in the order sent and without repeats; None to leave the ties as they are."""


def glance_at_register(body: bytes | mmap, today: date) -> Register | None:
    """The register in a document that is plainly right; None where more has to be looked at, which takes longer."""
    with collection_put_off():
        document = read_at_a_glance(body, NewImport, fewest_quotes)
        return register_of(document, today) if document else None


def read_register(body: bytes | mmap, today: date) -> Register:
    """The register in a document `{"citizens": […]}`. Raises `MalformedJson`, `InvalidCitizens`."""
    register = glance_at_register(body, today)
    if register is None:
        document = examine(body, NewImport, InvalidCitizens, partial(add_faults_of_register, today=today))
        register = register_of(document, today)
    assert register is not None, "the two ways of reading a register disagree"
    return register


def read_change(body: bytes, today: date) -> Correction:
    """The change in a document. Whether its relatives exist is for the caller to see. Raises as `read_register`."""
    change = read_json(body, CitizenChange, InvalidCitizens, partial(add_faults_of_change, today=today))
    columns = {name: value for name, value in asdict(change).items() if value is not UNSET}
    relatives = columns.pop("relatives", None)
    if "birth_date" in columns:
        columns["birth_date"] = DATES[columns["birth_date"]]
    return Correction(columns, relatives)


def fewest_quotes(document: NewImport) -> int:
    return 2 + 2 * WORDS_OF_A_CITIZEN * len(document.citizens)


def register_of(document: NewImport, today: date) -> Register | None:
    """The register, if it is right: a pass for the rows, then a rule at a time over whole columns."""
    citizens = document.citizens
    try:
        rows: list[Row] = [
            (c.citizen_id, c.town, c.street, c.building, c.apartment, c.name, DATES[c.birth_date], c.gender)
            for c in citizens
        ]
    except ValueError:
        return None
    citizen_ids = [row[0] for row in rows]
    if not (
        len(set(citizen_ids)) == len(citizen_ids)
        and max([row[6] for row in rows], default=date.min) < today
        and not any(map(str.isspace, [row[5] for row in rows]))
        and all(
            map(
                LETTER_OR_DIGIT.search,
                {row[1] for row in rows}.union([row[2] for row in rows], [row[3] for row in rows]),
            )
        )
    ):
        return None
    ties = two_way_ties(citizen_ids, [citizen.relatives for citizen in citizens])
    return None if ties is None else Register(rows, ties)


@contextmanager
def collection_put_off() -> Iterator[None]:
    """What is built inside cannot form cycles, and looking for some takes a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def add_faults_of_change(document: Any, places: BadPlaces, today: date) -> None:
    if document == {}:
        places.add([], "must have at least one field")
    add_future_birth(document, [], places, today)
    relatives, _ = readable_relatives(document)
    for place, sentence in repeats(relatives):
        places.add(["relatives", place], sentence)


def add_faults_of_register(document: Any, places: BadPlaces, today: date) -> None:
    """Add what no single citizen shows, judging those that can be read; a register over its limit is not judged."""
    citizens = readable_member(document, "citizens")
    if not isinstance(citizens, list) or len(citizens) > MOST_CITIZENS:
        return
    families = []
    first_places: dict[int, int] = {}
    for place, citizen in enumerate(citizens):
        add_future_birth(citizen, ["citizens", place], places, today)
        citizen_id = readable_member(citizen, "citizen_id")
        if not is_number(citizen_id):
            continue
        if (first := first_places.setdefault(citizen_id, place)) != place:
            places.add(["citizens", place, "citizen_id"], f"{citizen_id} is taken by /citizens/{first}")
        families.append(Kin(place, citizen_id, *readable_relatives(citizen)))
    for place, position, sentence in kinship_faults(families, is_everyone_known=len(families) == len(citizens)):
        places.add(["citizens", place, "relatives", position], sentence)


def add_future_birth(citizen: Any, path: list[str | int], places: BadPlaces, today: date) -> None:
    written = readable_member(citizen, "birth_date")
    if isinstance(written, str) and date_fault(written) is None and DATES[written] >= today:
        places.add([*path, "birth_date"], f"{written} is not before today")


def readable_relatives(citizen: Any) -> tuple[list[tuple[int, int]], bool]:
    """The relatives that are ids, each with its place; and whether they are all."""
    relatives = readable_member(citizen, "relatives")
    if not isinstance(relatives, list) or len(relatives) > MOST_CITIZENS:
        return [], False
    readable = [(place, relative) for place, relative in enumerate(relatives) if is_number(relative)]
    return readable, len(readable) == len(relatives)


def readable_member(document: Any, name: str) -> Any:
    """The member of a JSON object; None where it is not there, or given twice."""
    if not isinstance(document, dict) or (isinstance(document, Doubled) and name in document.times):
        return None
    return document.get(name)


def is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_ID
