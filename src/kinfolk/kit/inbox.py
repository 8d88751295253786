"""The inbox: which messages have had their effect, written in the transaction of the effect itself.

And the beginnings: which of those that came back again and again were begun by somebody who may have died of it.
"""

from collections.abc import Collection
from datetime import timedelta

from kinfolk.kit.db import Connection
from kinfolk.kit.statements import (
    FORGOTTEN_BEGINNINGS,
    FORGOTTEN_MESSAGES,
    MESSAGE_BEGUN,
    MESSAGE_ENDED,
    NEW_MESSAGES,
)

REMEMBERED = timedelta(days=7)


async def new_among(conn: Connection, consumer: str, message_ids: Collection[str]) -> set[str]:
    """Those of the ids that this consumer has not seen; from now on it has, if the transaction is committed.

    Where another transaction is just at the same message, this waits for its end.
    """
    rows = await NEW_MESSAGES.fetch(conn, consumer=consumer, message_ids=sorted(set(message_ids)))
    return {row[0] for row in rows}


async def note_beginning(conn: Connection, consumer: str, fingerprint: str) -> int:
    """Note that it is begun, at once and for good; returns how many times it was begun and not ended before."""
    times: int = await MESSAGE_BEGUN.fetchval(conn, consumer=consumer, fingerprint=fingerprint)
    return times - 1


async def forget_beginning(conn: Connection, consumer: str, fingerprint: str) -> None:
    """Whoever began it lives."""
    await MESSAGE_ENDED.execute(conn, consumer=consumer, fingerprint=fingerprint)


async def forget_old(conn: Connection) -> int:
    """Forget what was seen longer than `REMEMBERED` ago; returns how many."""
    await FORGOTTEN_BEGINNINGS.execute(conn, kept=REMEMBERED)
    forgotten: int = await FORGOTTEN_MESSAGES.fetchval(conn, kept=REMEMBERED)
    return forgotten
