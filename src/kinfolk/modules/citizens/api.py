"""The HTTP face of citizens."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kinfolk.kit.db import Connection
from kinfolk.kit.documents import MalformedJson
from kinfolk.kit.http import Answer, Header, Request, entity_tag, get, patch, post
from kinfolk.kit.http.answers import StaleTag, UnreadableHeader
from kinfolk.kit.http.bodies import BodyTooLarge, BrokenBody, UnknownCharset, UnknownCoding
from kinfolk.modules.citizens.analytics import count_presents, find_percentiles
from kinfolk.modules.citizens.answers import MONTHS, MonthPresents, TownPercentiles
from kinfolk.modules.citizens.correction import NoSuchCitizen, correct_citizen
from kinfolk.modules.citizens.imports import (
    Edition,
    KeyUsedDifferently,
    NoSuchImport,
    Once,
    add_import,
    find_edition,
    find_editions,
    list_citizens,
)
from kinfolk.modules.citizens.register import (
    Citizen,
    CitizenChange,
    InvalidCitizens,
    NewImport,
    glance_at_register,
    read_change,
    read_register,
)

LARGEST_REGISTER_BYTES = 70_000_000
LARGEST_CHANGE_BYTES = 1_048_576
GLANCED_AT_BYTES = 4_000_000  # 10,000 citizens as they mostly are; a glance holds the event loop for some 30 ms

IVAN = Citizen(1, "Москва", "Льва Толстого", "16к7стр5", 7, "Иванов Иван Иванович", "26.12.1986", "male", [2])
MARIA = Citizen(2, "Москва", "Льва Толстого", "16к7стр5", 7, "Иванова Мария Леонидовна", "17.04.1990", "female", [1])
PRESENTS = {4: [MonthPresents(1, 1)], 12: [MonthPresents(2, 1)]}
TAG = Header("ETag", "The edition of the import that this answer was made of.")
SEEN = Header("If-None-Match", "Entity tags already seen; 304 if one of them is still right.")
UNREADABLE = (MalformedJson, BrokenBody, UnknownCharset, BodyTooLarge, UnknownCoding, InvalidCitizens)


class ImportNumber(Struct):
    """The number of an import."""

    import_id: int


class ImportAdded(Struct):
    """A register was taken."""

    data: ImportNumber


class CitizenList(Struct):
    """All citizens of an import by number."""

    data: list[Citizen]


class OneCitizen(Struct):
    """A citizen as it now stands."""

    data: Citizen


class Birthdays(Struct):
    """Presents by month; all twelve months are there."""

    data: dict[str, list[MonthPresents]]


class Percentiles(Struct):
    """Ages by town."""

    data: list[TownPercentiles]


@post(
    "/imports",
    takes=NewImport,
    sent=NewImport([IVAN, MARIA]),
    gives={201: ImportAdded},
    given=ImportAdded(ImportNumber(1)),
    refuses=(*UNREADABLE, UnreadableHeader, KeyUsedDifferently),
    reads=[Header("Idempotency-Key", "Makes a retry within a day harmless: it gets the first answer.")],
    sets=[Header("Location", "Where the citizens of the import are.", "/api/v1/imports/1/citizens")],
)
async def post_import(request: Request) -> Answer:
    """Add a register of citizens, all or nothing."""
    key = request.idempotency_key()
    body = await request.bytes(LARGEST_REGISTER_BYTES)
    register = glance_at_register(body, _today()) if len(body) < GLANCED_AT_BYTES else None
    if register is None:
        register = await request.read(read_register, body, _today())
    once = Once(key, (await asyncio.to_thread(hashlib.sha256, body)).digest()) if key else None
    async with request.db.transaction() as conn:
        import_id = await add_import(conn, register, once)
    location = request.place(f"/imports/{import_id}/citizens")
    return Answer.of(ImportAdded(ImportNumber(import_id)), 201, headers={"location": location})


@get(
    "/imports/{import_id}/citizens",
    gives={200: CitizenList, 304: None},
    given=CitizenList([IVAN, MARIA]),
    refuses=[NoSuchImport],
    reads=[SEEN],
    sets=[TAG],
)
async def get_citizens(request: Request) -> Answer:
    """All citizens of an import by number."""
    return await _answer(request, "citizens", CitizenList, list_citizens)


@patch(
    "/imports/{import_id}/citizens/{citizen_id}",
    takes=CitizenChange,
    sent=CitizenChange(street="Иосифа Бродского", building="2", relatives=[]),
    gives={200: OneCitizen},
    given=OneCitizen(replace(IVAN, street="Иосифа Бродского", building="2", relatives=[])),
    refuses=(*UNREADABLE, UnreadableHeader, NoSuchImport, NoSuchCitizen, StaleTag),
    reads=[Header("If-Match", "Change only if the import still has this entity tag.")],
    sets=[TAG],
)
async def patch_citizen(request: Request) -> Answer:
    """Correct a citizen, and the other side of each tie with it."""
    import_id = request.number("import_id", NoSuchImport)
    citizen_id = request.number("citizen_id", NoSuchCitizen)
    correction = read_change(await request.bytes(LARGEST_CHANGE_BYTES), _today())
    async with request.db.transaction() as conn:
        citizen, edition = await correct_citizen(
            conn, import_id, citizen_id, correction, lambda seen: request.require(_tag(seen))
        )
    return Answer.of(OneCitizen(citizen), headers={"etag": _tag(edition)})


@get(
    "/imports/{import_id}/citizens/birthdays",
    gives={200: Birthdays, 304: None},
    given=Birthdays({str(month): PRESENTS.get(month, []) for month in MONTHS}),
    refuses=[NoSuchImport],
    reads=[SEEN],
    sets=[TAG],
)
async def get_birthdays(request: Request) -> Answer:
    """How many presents each citizen buys for relatives, by the month of the relative's birth."""
    return await _answer(request, "birthdays", Birthdays, count_presents)


@get(
    "/imports/{import_id}/towns/stat/percentile/age",
    gives={200: Percentiles, 304: None},
    given=Percentiles([TownPercentiles("Москва", 37.5, 38.25, 38.97)]),
    refuses=[NoSuchImport],
    reads=[SEEN],
    sets=[TAG],
)
async def get_percentiles(request: Request) -> Answer:
    """How old the citizens of each town are: percentiles of the age in full years today (UTC)."""
    today = _today()
    return await _answer(request, "percentiles", Percentiles, partial(find_percentiles, today=today), today)


async def _answer(
    request: Request,
    name: str,
    shape: Callable[[Any], Any],
    read: Callable[[Connection, int], Awaitable[Any]],
    *more: object,
) -> Answer:
    """What `read` finds, as `shape`, under the tag of the edition that it was read of.

    The tag carries `more`, too, where the answer depends on more than the import.
    """
    import_id = request.number("import_id", NoSuchImport)
    edition = await request.db.gathered(find_editions, import_id)

    async def make() -> tuple[str, Any]:
        async with request.db.snapshot() as conn:
            tag = _tag(await find_edition(conn, import_id), *more)
            found = await read(conn, import_id)
        return tag, shape(found)

    return await request.answer_unless_seen(f"imports/{import_id}/{name}", _tag(edition, *more), make)


def _today() -> date:
    return datetime.now(UTC).date()


def _tag(edition: Edition, *more: object) -> str:
    """The moment of birth keeps apart two imports with one number, as after a restored backup."""
    return entity_tag(edition.version, f"{edition.created_at.timestamp():.6f}".replace(".", ""), *more)


ROUTES = [post_import, get_citizens, patch_citizen, get_birthdays, get_percentiles]
