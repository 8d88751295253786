"""What is forgotten each night: tokens that have expired, failures that no longer count."""

from msgspec import Struct

from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.schedule import Tick
from kinfolk.kit.tokens import forget_expired
from kinfolk.modules.accounts.floods import forget_old


class Forgotten(Struct, frozen=True):
    """How many were forgotten."""

    tokens: int
    failures: int


@job(name="accounts.forget")
async def forget(conn: Connection) -> Forgotten:
    """Forget tokens that have expired and failures that no longer count."""
    return Forgotten(await forget_expired(conn), await forget_old(conn))


JOBS = [forget]
TICKS = [Tick("accounts.forget", "37 3 * * *", forget)]
