"""The inbox: which messages have had their effect, written in the transaction of the effect itself."""

from collections.abc import Collection
from datetime import timedelta

from kinfolk.kit.db import Connection
from kinfolk.kit.statements import FORGOTTEN_MESSAGES, NEW_MESSAGES

REMEMBERED = timedelta(days=7)


async def new_among(conn: Connection, consumer: str, message_ids: Collection[str]) -> set[str]:
    """Those of the ids that this consumer has not seen; from now on it has, if the transaction is committed.

    Where another transaction is just at the same message, this waits for its end.
    """
    rows = await NEW_MESSAGES.fetch(conn, consumer=consumer, message_ids=sorted(set(message_ids)))
    return {row[0] for row in rows}


async def forget_old(conn: Connection) -> int:
    """Forget what was seen longer than `REMEMBERED` ago; returns how many."""
    forgotten: int = await FORGOTTEN_MESSAGES.fetchval(conn, kept=REMEMBERED)
    return forgotten
