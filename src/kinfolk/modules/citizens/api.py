"""The HTTP face of citizens."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kinfolk.kit.db import Connection
from kinfolk.kit.documents import MalformedJson
from kinfolk.kit.http import Answer, Header, Request, delete, entity_tag, get, patch, post
from kinfolk.kit.http.answers import StaleTag, UnreadableHeader
from kinfolk.kit.http.bodies import (
    BodyStopped,
    BodyTooLarge,
    BrokenBody,
    NoRoom,
    TooManyUploads,
    UnknownCharset,
    UnknownCoding,
)
from kinfolk.modules.citizens.analytics import count_presents, find_percentiles
from kinfolk.modules.citizens.answers import MONTHS, MonthPresents, TownPercentiles
from kinfolk.modules.citizens.correction import NoSuchCitizen, correct_citizen
from kinfolk.modules.citizens.imports import (
    Edition,
    KeyUsedDifferently,
    NoSuchImport,
    add_import,
    find_edition,
    find_editions,
    glance_at_import,
    list_citizens,
    read_import,
    tell_arrived,
    tell_read,
)
from kinfolk.modules.citizens.plain_correction import PlainCorrection, corrections_in
from kinfolk.modules.citizens.register import (
    LARGEST_REGISTER_BYTES,
    Citizen,
    CitizenChange,
    InvalidCitizens,
    NewImport,
    read_change,
)
from kinfolk.modules.citizens.removal import remove_import
from kinfolk.modules.citizens.rights import Held, HeldImport, Tie, export_citizen, remove_citizen

LARGEST_CHANGE_BYTES = 1_048_576

IVAN = Citizen(1, "Москва", "Льва Толстого", "16к7стр5", 7, "Иванов Иван Иванович", "26.12.1986", "male", [2])
MARIA = Citizen(2, "Москва", "Льва Толстого", "16к7стр5", 7, "Иванова Мария Леонидовна", "17.04.1990", "female", [1])
PRESENTS = {4: [MonthPresents(1, 1)], 12: [MonthPresents(2, 1)]}
TAG = Header("ETag", "The edition of the import that this answer was made of.")
SEEN = Header("If-None-Match", "Entity tags already seen; 304 if one of them is still right.")
UNREADABLE = (MalformedJson, BrokenBody, UnknownCharset, BodyTooLarge, UnknownCoding, BodyStopped, InvalidCitizens)


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


class Export(Struct):
    """All that is held about a citizen."""

    data: Held


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
    refuses=(*UNREADABLE, UnreadableHeader, KeyUsedDifferently, TooManyUploads, NoRoom),
    reads=[Header("Idempotency-Key", "Makes a retry within a day harmless: it gets the first answer.")],
    sets=[Header("Location", "Where the citizens of the import are.", "/api/v1/imports/1/citizens")],
)
async def post_import(request: Request) -> Answer:
    """Add a register of citizens, all or nothing."""
    key, owner_id = request.idempotency_key(), request.who.user_id
    async with request.whole_body(LARGEST_REGISTER_BYTES) as body:
        # Of a small body a glance holds the event loop for some 30 ms at the most.
        found = glance_at_import(body.small, _today(), key) if body.is_small else None
        if found is not None:
            async with request.db.transaction() as conn:
                import_id = await add_import(conn, *found, owner_id)
        else:
            read = partial(read_import, today=_today(), key=key)
            add = partial(add_import, owner_id=owner_id)
            if not body.is_small:
                async with request.db.connection() as conn:
                    await tell_arrived(conn, body.size_bytes)
            import_id = await request.aside(body, read, add, may_repeat=key is not None, between=tell_read)
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
    answer = await _answer(request, "citizens", CitizenList, _list_citizens, request.db.snapshot)
    if answer.status == 200:  # who has seen it before learns nothing new
        await request.note("register.read", import_id=request.number("import_id", NoSuchImport))
    return answer


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
    corrected = None
    if correction.relatives is None and not request.is_conditional:
        plain = PlainCorrection(import_id, citizen_id, correction.columns)
        corrected = await corrections_in(request.db).make(plain)
    if corrected is None:
        async with request.db.transaction() as conn:
            corrected = await correct_citizen(
                conn, import_id, citizen_id, correction, lambda seen: request.require(_tag(seen))
            )
    citizen, edition = corrected
    return Answer.of(OneCitizen(citizen), headers={"etag": _tag(edition)})


@delete(
    "/imports/{import_id}/citizens/{citizen_id}",
    is_at_root=False,
    gives={204: None},
    refuses=[NoSuchImport, NoSuchCitizen, StaleTag],
    reads=[Header("If-Match", "Remove only if the import still has this entity tag.")],
)
async def delete_citizen(request: Request) -> Answer:
    """Remove a citizen: the other side of each tie, and all that was kept, go with them."""
    import_id = request.number("import_id", NoSuchImport)
    citizen_id = request.number("citizen_id", NoSuchCitizen)
    async with request.db.transaction() as conn:
        await remove_citizen(conn, import_id, citizen_id, lambda seen: request.require(_tag(seen)))
    return Answer(status=204)


@get(
    "/imports/{import_id}/citizens/{citizen_id}/export",
    is_at_root=False,
    gives={200: Export},
    given=Export(
        Held(replace(IVAN, relatives=[2]), [Tie(1, 2)], HeldImport(1, 3, "2026-11-22T12:00:00+00:00", None, None), [])
    ),
    refuses=[NoSuchImport, NoSuchCitizen],
    sets=[Header("Content-Disposition", "A name for the file.", 'attachment; filename="citizen-1-1.json"')],
)
async def get_export(request: Request) -> Answer:
    """All that is held about a citizen: the record, both ends of each tie, the import, what the audit log has."""
    import_id = request.number("import_id", NoSuchImport)
    citizen_id = request.number("citizen_id", NoSuchCitizen)
    async with request.db.transaction() as conn:
        held = await export_citizen(conn, import_id, citizen_id)
    name = f'attachment; filename="citizen-{import_id}-{citizen_id}.json"'
    return Answer.of(Export(held), headers={"content-disposition": name, "cache-control": "no-store"})


@delete(
    "/imports/{import_id}",
    gives={204: None},
    refuses=[NoSuchImport, StaleTag],
    reads=[Header("If-Match", "Remove only if the import still has this entity tag.")],
)
async def delete_import(request: Request) -> Answer:
    """Remove an import with all its citizens; a POST with its Idempotency-Key adds the register anew."""
    import_id = request.number("import_id", NoSuchImport)
    async with request.db.transaction() as conn:
        await remove_import(conn, import_id, lambda seen: request.require(_tag(seen)))
    return Answer(status=204)


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
    return await _answer(request, "birthdays", Birthdays, count_presents, request.db.connection)


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
    find = partial(find_percentiles, today=today)
    return await _answer(request, "percentiles", Percentiles, find, request.db.connection, today)


async def _answer(
    request: Request,
    name: str,
    shape: Callable[[Any], Any],
    read: Callable[[Connection, int], Awaitable[tuple[Edition, Any]]],
    opened: Callable[[], AbstractAsyncContextManager[Connection]],
    *more: object,
) -> Answer:
    """What `read` finds, as `shape`, under the tag of the edition that it was read of.

    The tag carries `more`, too, where the answer depends on more than the import.
    """
    import_id = request.number("import_id", NoSuchImport)
    edition = await request.db.gathered(find_editions, import_id)
    if request.only_of not in (None, edition.owner_id):
        raise NoSuchImport(import_id=import_id)

    async def make() -> tuple[str, Any]:
        async with opened() as conn:
            newest, found = await read(conn, import_id)
        return _tag(newest, *more), shape(found)

    return await request.answer_unless_seen(f"imports/{import_id}/{name}", _tag(edition, *more), make)


async def _list_citizens(conn: Connection, import_id: int) -> tuple[Edition, list[Citizen]]:
    """In a snapshot, all of one edition."""
    return await find_edition(conn, import_id), await list_citizens(conn, import_id)


def _today() -> date:
    return datetime.now(UTC).date()


def _tag(edition: Edition, *more: object) -> str:
    """The moment of birth keeps apart two imports with one number, as after a restored backup."""
    return entity_tag(edition.version, f"{edition.created_at.timestamp():.6f}".replace(".", ""), *more)


ROUTES = [
    post_import,
    get_citizens,
    patch_citizen,
    delete_citizen,
    get_export,
    delete_import,
    get_birthdays,
    get_percentiles,
]
