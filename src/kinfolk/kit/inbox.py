"""The inbox: which messages have had their effect, written in the transaction of the effect itself."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Column, DateTime, Table, Text, delete, func, select
from sqlalchemy.dialects import postgresql

from kinfolk.kit.db import Connection, metadata
from kinfolk.kit.sql import param, sql

REMEMBERED = timedelta(days=7)

inbox = Table(
    "inbox",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
)

# Sorted, so that two consumers with the same messages wait for each other and never in a circle.
NEW_AMONG_THESE = sql(
    postgresql.insert(inbox)
    .from_select(
        ["consumer", "message_id"],
        select(param("consumer", Text), func.unnest(param("message_ids", postgresql.ARRAY(Text)))),
    )
    .on_conflict_do_nothing()
    .returning(inbox.c.message_id)
)
_old = delete(inbox).where(inbox.c.seen_at < func.now() - REMEMBERED).returning(inbox.c.message_id).cte()
FORGOTTEN = sql(select(func.count()).select_from(_old))


async def new_among(conn: Connection, consumer: str, message_ids: Collection[str]) -> set[str]:
    """Those of the ids that this consumer has not seen; from now on it has, if the transaction is committed.

    Where another transaction is just at the same message, this waits for its end.
    """
    rows = await NEW_AMONG_THESE.fetch(conn, consumer=consumer, message_ids=sorted(set(message_ids)))
    return {row[0] for row in rows}


async def forget_old(conn: Connection) -> int:
    """Forget what was seen longer than `REMEMBERED` ago; returns how many."""
    forgotten: int = await FORGOTTEN.fetchval(conn)
    return forgotten
