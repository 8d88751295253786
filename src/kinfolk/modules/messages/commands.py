"""The operator's commands: `kinfolk messages parked`, `replay` and `drop`."""

from typing import Annotated
from urllib.parse import quote

import msgspec
from cyclopts import App, Parameter

from kinfolk.kit.client import asked, printable, read_answer
from kinfolk.kit.ending import OK, ends_plainly
from kinfolk.kit.settings import ClientSettings, FileSettings, whole

LONGEST_BODY_SHOWN = 200

app = App("messages", help="Look after parked messages, those that have failed for good: parked, replay, drop.")

Lane = Annotated[str, Parameter(help="The name of the lane.")]


class Place(msgspec.Struct, frozen=True):
    pointer: str
    detail: str


class Wrong(msgspec.Struct, frozen=True):
    """What we read of a problem that stands on a message."""

    errors: list[Place] = []
    error_count: int = 0


class Parked(msgspec.Struct, frozen=True):
    """What we read of a parked message."""

    lane: str
    id: str
    reason: str
    attempts: int
    body: str
    body_bytes: int
    parked_at: str | None = None
    problem: Wrong | None = None


class Replayed(msgspec.Struct, frozen=True):
    replayed: int


@app.command
@ends_plainly
def parked(
    lane: Lane | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(converter=whole, help="How many at the most.")] = 100,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """List parked messages: lane, id, when, attempts, why, every bad place, and how the body begins."""
    query = {"limit": str(limit)} | ({} if lane is None else {"lane": lane})
    for message in read_answer(asked("GET", "api/v1/messages/parked", client, query), list[Parked]):
        print(printable(f"{message.lane}  {message.id}  {message.parked_at or '-'}  attempts {message.attempts}"))
        print(printable(f"    {message.reason}"))
        wrong = message.problem or Wrong()
        for place in wrong.errors:
            print(printable(f"    {place.pointer or '(the whole document)'}: {place.detail}"))
        if (left := wrong.error_count - len(wrong.errors)) > 0:
            print(f"    and {left} more")
        more = "…" if message.body_bytes > LONGEST_BODY_SHOWN else ""
        print(printable(f"    {message.body[:LONGEST_BODY_SHOWN]}{more} ({message.body_bytes:,} bytes)"))
    return OK


@app.command
@ends_plainly
def replay(
    lane: Lane,
    /,
    *,
    message_id: Annotated[str | None, Parameter(name="--id", help="Only this one.")] = None,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Send parked messages of a lane back to work: those parked now, or one."""
    path = f"api/v1/messages/parked/{quote(lane, safe='')}/replay"
    answer = asked("POST", path, client, {} if message_id is None else {"id": message_id})
    print(f"replayed {read_answer(answer, Replayed).replayed}")
    return OK


@app.command
@ends_plainly
def drop(
    lane: Lane,
    /,
    *,
    message_id: Annotated[str, Parameter(name="--id", help="Which one.")],
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Forget a parked message."""
    asked("DELETE", f"api/v1/messages/parked/{quote(lane, safe='')}/{quote(message_id, safe='')}", client)
    print(printable(f"dropped {message_id}"))
    return OK
