"""A citizen's rights: to be told all that is held about them, and to be forgotten."""

from collections.abc import Callable

from msgspec import Struct

from kinfolk.kit import audit, events, forgetting
from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.statement import Moment
from kinfolk.modules.citizens.correction import NoSuchCitizen, tell_of_relatives
from kinfolk.modules.citizens.imports import BODY_FORGOTTEN, Edition, as_shown, find_edition
from kinfolk.modules.citizens.register import Citizen
from kinfolk.modules.citizens.statements import (
    FORGOTTEN_BODY,
    HELD_CITIZEN,
    RELATIVES_ENDED,
    REMOVED_CITIZEN,
    TAKEN_IMPORT,
)


class Retry(Struct, frozen=True):
    """What is remembered for a day, so that a retry of the import adds nothing."""

    key: str
    """The sender's `Idempotency-Key`, behind who the sender was."""
    body_sha256: str
    """Of the whole register as it was sent; empty once a citizen of it was removed."""
    created_at: Moment


class HeldImport(Struct, frozen=True):
    """The import that a citizen came in."""

    import_id: int
    version: int
    created_at: Moment
    owner_id: int | None
    """The user who added it; none where nobody was asked, and by message."""
    retry: Retry | None


class Tie(Struct, frozen=True):
    """Kinship, as it is stored: once for both."""

    low_id: int
    high_id: int


class Held(Struct, frozen=True, rename={"imported": "import"}):
    """What is held about a citizen."""

    citizen: Citizen
    ties: list[Tie]
    imported: HeldImport
    audit: list[audit.Noted]
    """What was done to the citizen, and to the whole import; this export, too."""


async def export_citizen(conn: Connection, import_id: int, citizen_id: int) -> Held:
    """All that is held about a citizen. Raises NoSuchImport and NoSuchCitizen."""
    row = await HELD_CITIZEN.fetchrow(conn, import_id=import_id, citizen_id=citizen_id)
    if row is None:
        raise await _absent(conn, import_id, citizen_id)
    version, created_at, owner_id, key, body_sha256, remembered_at, relatives, *shown = row
    await audit.note(conn, "citizen.exported", import_id=import_id, citizen_id=citizen_id)
    note(import_id=import_id, citizen_id=citizen_id)
    return Held(
        as_shown(*shown, relatives),
        [Tie(min(citizen_id, relative), max(citizen_id, relative)) for relative in relatives],
        HeldImport(
            import_id, version, created_at, owner_id, None if key is None else Retry(key, body_sha256, remembered_at)
        ),
        await audit.list_about_citizen(conn, import_id, citizen_id),
    )


async def remove_citizen(conn: Connection, import_id: int, citizen_id: int, check: Callable[[Edition], None]) -> None:
    """Remove a citizen and all their ties: a change of the import like any other, which has its own edition.

    `check` sees the edition before it and may raise. Raises NoSuchImport and NoSuchCitizen.
    """
    taken = await TAKEN_IMPORT.fetchrow(conn, import_id=import_id, citizen_id=citizen_id)
    if taken is None:
        raise await _absent(conn, import_id, citizen_id)
    version, created_at, owner = taken
    ended = await RELATIVES_ENDED.fetch(conn, import_id=import_id, citizen_id=citizen_id)
    gone = NoSuchCitizen(import_id=import_id, citizen_id=citizen_id)  # somebody else removed them meanwhile
    await REMOVED_CITIZEN.fetchrow_or(conn, gone, import_id=import_id, citizen_id=citizen_id)
    check(Edition(version - 1, created_at))
    # The key stays, or a retry would bring the citizen back.
    await FORGOTTEN_BODY.execute(conn, import_id=import_id, body_sha256=BODY_FORGOTTEN)
    await forgetting.owe(conn, f"imports/{import_id}/")
    await audit.note(conn, "citizen.removed", import_id=import_id, citizen_id=citizen_id)
    await events.tell(conn, "citizen.removed", owner=owner, import_id=import_id, citizen_id=citizen_id)
    await tell_of_relatives(conn, import_id, citizen_id, [relative_id for (relative_id,) in ended], owner)
    note(import_id=import_id, citizen_id=citizen_id)


async def _absent(conn: Connection, import_id: int, citizen_id: int) -> NoSuchCitizen:
    """Raises NoSuchImport."""
    await find_edition(conn, import_id)
    return NoSuchCitizen(import_id=import_id, citizen_id=citizen_id)
