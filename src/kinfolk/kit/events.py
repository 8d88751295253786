"""Events: what others are told of a change once it is committed; ids and counts, never personal data.

    await events.tell(conn, "citizen.changed", import_id=7, citizen_id=1)  # in the transaction of `conn`

They travel by PostgreSQL's NOTIFY: a rollback tells nothing, and who does not listen at the moment is not told later.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from kinfolk.kit import log
from kinfolk.kit.db import AWAY, EVENTS_CHANNEL, NOT_LET_IN, Connection, Database
from kinfolk.kit.statements import EVENTS_TOLD

LONGEST_BYTES = 7_999  # of PostgreSQL
MOST_TOGETHER = 64
LIFE_SIGN_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 5.0


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


class Listening:
    """One connection that hears what is told, and is made anew whenever it is lost."""

    def __init__(self, db: Database, on_notice: Callable[[Notice], None], on_begin: Callable[[], None]) -> None:
        """`on_begin` is called whenever hearing begins: what was told before was not heard."""
        self._db = db
        self._on_notice = on_notice
        self._on_begin = on_begin
        self.begun = asyncio.Event()
        """Set while it hears."""

    async def run(self) -> None:
        """For ever."""
        pause_seconds = 0.0
        while True:
            try:
                async with self._db.apart() as conn:
                    lost = asyncio.Event()
                    conn.add_termination_listener(lambda _conn, lost=lost: lost.set())
                    await conn.add_listener(EVENTS_CHANNEL, self._hear)
                    pause_seconds = 0.0
                    self.begun.set()
                    self._on_begin()
                    await self._stay(conn, lost)
            except (*NOT_LET_IN, *AWAY) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                reason = "the connection was lost"
            finally:
                self.begun.clear()
            pause_seconds = min(pause_seconds * 2 or 0.2, LONGEST_PAUSE_SECONDS)
            log.write_line({"event": "events_away", "reason": reason, "again_seconds": pause_seconds}, logging.WARNING)
            await asyncio.sleep(pause_seconds)

    async def _stay(self, conn: Any, lost: asyncio.Event) -> None:
        """Until it is lost; a server that went without a word is noticed by what it does not answer."""
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), LIFE_SIGN_SECONDS)
            if not lost.is_set():
                await conn.execute("SELECT 1")

    def _hear(self, _conn: Any, _pid: int, _channel: str, payload: Any) -> None:
        try:
            notice = msgspec.json.decode(payload, type=Notice)
        except msgspec.DecodeError as error:  # anybody who may connect may tell anything
            log.write_line({"event": "unreadable_notice", "reason": str(error)}, logging.WARNING)
        else:
            self._on_notice(notice)
