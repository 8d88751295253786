"""The chain of the audit log: each entry carries the hash of the one before, so that no change goes unseen.

Entries are noted plain, by many at once, and get their place a moment later from whoever holds the lock. The hash of
an entry is SHA-256 over the hash before it and the entry as JSON, see `link`; the first follows 32 zero bytes.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from kinfolk.kit import log
from kinfolk.kit.audit import note
from kinfolk.kit.db import Connection, Database, DatabaseAway
from kinfolk.kit.statements import (
    ANY_UNSEALED,
    CUT_ALLOWED,
    CUT_OFF,
    LAST_SEALED,
    LINKS,
    OLDEST_TO_STAY,
    SEALED,
    SEALING_HELD,
    SEALING_TRIED,
    UNSEALED,
)

PAUSE_SECONDS = 1.0
STUCK = "10s"
MOST_AT_ONCE = 2_000
PAGE = 10_000
BEGINNING = bytes(32)
CUT = "audit.cut"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Anchor(NamedTuple):
    """An entry's number and hash: noted elsewhere, they prove later that all up to there is as it was."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


START = Anchor(0, BEGINNING)


class Verdict(NamedTuple):
    """What became of the chain."""

    entries: int
    last: Anchor
    wrong: str | None
    """What is wrong with the first bad entry."""


def link(previous_hash: bytes, number: int, told: Sequence[Any]) -> bytes:
    """The hash of an entry, whose moment counts as microseconds since 1970."""
    happened_at, *others = told
    moment = (happened_at - _EPOCH) // _MICROSECOND
    return hashlib.sha256(previous_hash + msgspec.json.encode([number, moment, *others])).digest()


async def seal(conn: Connection, *, is_patient: bool = True) -> int:
    """Give entries that have none their places in the chain, MOST_AT_ONCE at the most; how many.

    In the transaction of `conn`, one at a time: whoever is not patient leaves it to whoever is at it.
    """
    # One that was stopped (SIGSTOP, a frozen machine) in the middle must not hold up the others.
    await conn.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{STUCK}'")
    if is_patient:
        await SEALING_HELD.execute(conn)
    elif not await SEALING_TRIED.fetchval(conn):
        return 0
    waiting = sorted(await UNSEALED.fetch(conn, most=MOST_AT_ONCE))
    last = await _last(conn)
    places = []
    for entry_id, *told in waiting:
        number = last.number + 1
        places.append((entry_id, number, last.hash, link(last.hash, number, told)))
        last = Anchor(number, places[-1][3])
    if places:
        entry_ids, numbers, previous_hashes, hashes = zip(*places, strict=True)
        await SEALED.execute(
            conn, entry_ids=entry_ids, audit_number=numbers, audit_previous_hash=previous_hashes, audit_hash=hashes
        )
        log.note(sealed=len(places), anchor=str(last))
    return len(places)


async def seal_all(db: Database) -> None:
    """Give all that were noted before this call their places."""
    while True:
        async with db.transaction() as conn:
            if await seal(conn) < MOST_AT_ONCE:
                return


@asynccontextmanager
async def sealing(db: Database) -> AsyncIterator[None]:
    """Meanwhile, what anybody notes gets its place within a second or so; any number of processes may do this.

    Each time it writes a line with the last number and hash: an anchor, wherever logs are kept.
    """
    task = asyncio.create_task(_seal_forever(db))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _seal_forever(db: Database) -> None:
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        with log.facts() as facts:
            try:
                await _seal_waiting(db)
            except DatabaseAway:
                continue  # whoever works with it says so
            except Exception as error:  # the next second may do better, and nobody else does this
                log.write_line({"event": "not_sealed"}, logging.ERROR, error)
                continue
        if "sealed" in facts:
            log.write_line({"event": "audit_sealed", **facts})


async def _seal_waiting(db: Database) -> None:
    async with db.connection() as conn:
        if await ANY_UNSEALED.fetchval(conn) is None:
            return
        is_more = True
        while is_more:
            async with conn.transaction():
                is_more = await seal(conn, is_patient=False) == MOST_AT_ONCE


async def verify(conn: Connection, since: Anchor | None = None) -> Verdict:
    """Follow the chain from its first entry; with `since`, the entry noted earlier must stand where it stood.

    Names the first entry that was changed, removed or moved. Entries that were cut off are accounted for by the entry
    that says so.
    """
    entries, first, last = 0, START, START
    cuts: set[tuple[int, str]] = set()
    while rows := await LINKS.fetch(conn, after=last.number, limit=PAGE):
        for number, previous_hash, own_hash, *told in rows:
            if entries == 0 and number > 1:  # the beginning was cut off
                first = last = Anchor(number - 1, previous_hash)
            stands = Anchor(number, own_hash)
            if wrong := _wrong_with(stands, previous_hash, told, last):
                return Verdict(entries, last, wrong)
            if since is not None and number == since.number and stands != since:
                wrong = f"entry {number} is not the one that was noted: it or one before it was changed"
                return Verdict(entries, last, wrong)
            last = stands
            entries += 1
            if told[1] == CUT:
                cut = msgspec.json.decode(told[-1])
                cuts.add((cut["through"], cut["hash"]))
    return Verdict(entries, last, _wrong_at_ends(first, last, cuts, since))


def _wrong_with(stands: Anchor, previous_hash: bytes, told: Sequence[Any], last: Anchor) -> str | None:
    if stands.number != last.number + 1:
        return f"entry {last.number + 1} is missing"
    if previous_hash != last.hash:
        return f"entry {stands.number} does not follow entry {last.number}: one of them was changed"
    if stands.hash != link(previous_hash, stands.number, told):
        return f"entry {stands.number} was changed"
    return None


def _wrong_at_ends(first: Anchor, last: Anchor, cuts: set[tuple[int, str]], since: Anchor | None) -> str | None:
    if first != START and (first.number, first.hash.hex()) not in cuts:
        return "entry 1 is missing, and no entry says that it was cut off"
    if since is None or since == first:
        return None
    if since.number > last.number:
        return f"entry {last.number + 1} is missing: the log ends before the entry that was noted"
    if since.number <= first.number:
        return f"entry {since.number}, which was noted, has been cut off since: nothing can be told from it"
    return None


async def cut(conn: Connection, before: datetime) -> int:
    """Remove the oldest entries, up to the first of those that happened at `before` or later; how many.

    The newest stays, for the chain goes on from it. That it was done, how far, and the hash that the chain goes on
    from, is an entry itself. In the transaction of `conn`, once all have their places.
    """
    await SEALING_HELD.execute(conn)
    oldest = await OLDEST_TO_STAY.fetchval(conn, before=before)
    last = await _last(conn)
    through = last.number - 1 if oldest is None else oldest - 1
    await CUT_ALLOWED.execute(conn, through=str(through))
    removed = sorted(await CUT_OFF.fetch(conn, through=through))
    if removed:
        number, own_hash = removed[-1]
        await note(conn, CUT, by="command", through=number, hash=own_hash.hex(), entries=len(removed))
    return len(removed)


async def _last(conn: Connection) -> Anchor:
    row = await LAST_SEALED.fetchrow(conn)
    return START if row is None else Anchor(*row)
