"""The first administrator, made when a service that asks who it is starts and there is nobody yet."""

import asyncio

from kinfolk.kit import log
from kinfolk.kit.db import Database, DatabaseAway
from kinfolk.kit.ending import tell
from kinfolk.kit.revision import is_current
from kinfolk.modules.accounts.accounts import add_first_admin

PATIENCE_SECONDS = 5.0


def make_first_admin(url: str) -> None:
    """Make one if there is no user, and tell the password on standard error, once and nowhere else."""
    asyncio.run(_make(url))


async def _make(url: str) -> None:
    try:
        async with Database(url, size=1, wait_seconds=PATIENCE_SECONDS) as db, db.transaction() as conn:
            with log.facts(by="start"):
                made = await add_first_admin(conn) if await is_current(conn) else None
    except DatabaseAway:  # which does not keep the service from starting: `kinfolk user add` makes one later
        return
    if made is not None:
        user, password = made
        tell(
            f"The first administrator is {user.username}, with the password {password}\n"
            "It is shown only now and is good for a day: "
            "set another, with `kinfolk user reset` or PATCH /api/v1/user/me."
        )
