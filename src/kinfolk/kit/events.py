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
from sqlalchemy import ColumnElement, Text, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY

from kinfolk.kit import log
from kinfolk.kit.db import AWAY, NOT_LET_IN, Connection, Database
from kinfolk.kit.sql import param, sql

CHANNEL = "ch_kinfolk_events"
LONGEST_BYTES = 7_999  # of PostgreSQL
MOST_TOGETHER = 64
LIFE_SIGN_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 5.0

_MOMENT = literal_column("""to_char(clock_timestamp(), 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')""", Text)


class Notice(msgspec.Struct, frozen=True):
    """What one NOTIFY carries: several things of one name and one moment."""

    name: str
    when: str
    whats: list[msgspec.Raw]
    owner: str | None = None
    """Whose it is, as `Who.by` has it; those who see only their own see no other."""


TOLD = sql(select(func.pg_notify(CHANNEL, func.unnest(param("payloads", ARRAY(Text))))))


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
    await TOLD.execute(conn, payloads=payloads)


def telling(name: str | ColumnElement[str], whats: ColumnElement[Any], owner: ColumnElement[Any]) -> ColumnElement[str]:
    """`tell` as a column of a statement, which then costs no round trip of its own; `whats` is an array in JSON."""
    named = _word(name) if isinstance(name, str) else name
    notice = [_word("name"), named, _word("when"), _MOMENT, _word("whats"), whats, _word("owner"), owner]
    return cast(func.pg_notify(_word(CHANNEL), cast(func.json_build_object(*notice), Text)), Text).label("told")


def what(**ids: ColumnElement[Any]) -> ColumnElement[Any]:
    """One of `whats`."""
    return func.json_build_object(*(part for name, value in ids.items() for part in (_word(name), value)))


def one(**ids: ColumnElement[Any]) -> ColumnElement[Any]:
    """`whats`, where there is one."""
    return func.json_build_array(what(**ids))


def _word(text: str) -> ColumnElement[str]:
    """In the text of the statement, for a parameter costs something with each call."""
    return literal_column(f"'{text}'", Text)


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
                    await conn.add_listener(CHANNEL, self._hear)
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
