"""Events: what others are told of a change once it is committed; ids and counts, never personal data.

    await events.tell(conn, "citizen.changed", import_id=7, citizen_id=1)  # in the transaction of `conn`

They travel by PostgreSQL's NOTIFY: a rollback tells nothing, and who does not listen at the moment is not told later.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from kinfolk.kit import log
from kinfolk.kit.db import EVENTS_CHANNEL, Connection, Database, Ear
from kinfolk.kit.documents import FAULTS
from kinfolk.kit.statements import EVENTS_TOLD

LONGEST_BYTES = 7_999  # of PostgreSQL
MOST_TOGETHER = 64


class Notice(msgspec.Struct, frozen=True):
    """What one NOTIFY carries: several things of one name and one moment."""

    name: str
    when: str
    whats: list[msgspec.Raw]
    owner: str | None = None
    """Whose it is, as `Who.by` has it; those who see only their own see no other."""


async def tell(conn: Connection, name: str, *, owner: str | None = None, **what: Any) -> None:
    """Tell it, once the transaction of `conn` is committed, to all who listen then and may know."""
    await tell_each(conn, name, [what], owner=owner)


async def tell_each(conn: Connection, name: str, whats: Sequence[dict[str, Any]], *, owner: str | None = None) -> None:
    """As `tell`, of many at the cost of one."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    payloads = []
    for first in range(0, len(whats), MOST_TOGETHER):
        some = whats[first : first + MOST_TOGETHER]
        payload = msgspec.json.encode({"name": name, "when": when, "owner": owner, "whats": some})
        assert len(payload) <= LONGEST_BYTES, "an event names what has changed, and does not carry it"
        payloads.append(payload.decode())
    await EVENTS_TOLD.execute(conn, channel=EVENTS_CHANNEL, payloads=payloads)


def listen(db: Database, on_notice: Callable[[Notice], None], on_begin: Callable[[], None]) -> Ear:
    """Hear each notice, as `Database.listen` has it."""

    def on_told(payload: str) -> None:
        try:
            notice = msgspec.json.decode(payload, type=Notice)
        except FAULTS as error:  # anybody who may connect may tell anything
            log.write_line({"event": "unreadable_notice", "reason": str(error)}, logging.WARNING)
        else:
            on_notice(notice)

    return db.listen(EVENTS_CHANNEL, on_told, on_begin)
