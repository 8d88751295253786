"""What is done later for messages: publishing news, and forgetting, each night, the ids of long ago."""

from msgspec import Struct

from kinfolk.kit import inbox
from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.news import publish_news
from kinfolk.kit.schedule import Tick


class Forgotten(Struct, frozen=True):
    """How many were forgotten."""

    messages: int


@job(name="messages.forget")
async def forget_seen(conn: Connection) -> Forgotten:
    """Forget which messages had their effect a week ago or longer."""
    return Forgotten(await inbox.forget_old(conn))


JOBS = [publish_news, forget_seen]
TICKS = [Tick("messages.forget", "27 3 * * *", forget_seen)]
