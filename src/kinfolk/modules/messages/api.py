"""The HTTP face of parked messages."""

from typing import Annotated, Any

import msgspec

from kinfolk.kit.http import Answer, Request, delete, get, post
from kinfolk.kit.parked import (
    MOST_SHOWN,
    CannotBeSentBack,
    NoSuchLane,
    NoSuchParkedMessage,
    ParkedMessage,
    Parking,
)
from kinfolk.kit.rabbit import BrokerAway, NoBroker

LANE = {"lane": "The name of the lane."}
ID = {"id": "The id of the message, as the list shows it."}
FIRST = ParkedMessage(
    "imports.main", "42", "The citizens break the rules.", 1, "2026-11-22T10:00:00.000+00:00", None, "{}", 2, None
)
ABSENT = (NoSuchLane, NoBroker, BrokerAway)


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the parked messages."""

    lane: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_SHOWN)] = 100


class Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One, or all."""

    id: str | None = None


class Replayed(msgspec.Struct):
    """How many went back to work."""

    replayed: int


@get("/messages/parked", asks=Page, gives={200: list[ParkedMessage]}, given=[FIRST], refuses=ABSENT)
async def get_parked(request: Request) -> Answer:
    """The messages that wait for people, those that wait longest first."""
    page = request.asked(Page)
    async with request.db.transaction() as conn:
        return Answer.of(await _parking(request).list_parked(conn, page.lane, page.limit))


@post(
    "/messages/parked/{lane}/replay",
    gives={200: Replayed},
    given=Replayed(3),
    refuses=(*ABSENT, NoSuchParkedMessage, CannotBeSentBack),
    named=LANE,
    asks=Which,
)
async def replay_parked(request: Request) -> Answer:
    """Send parked messages back to work: those parked now, or one."""
    which = request.asked(Which)
    async with request.db.transaction() as conn:
        replayed = await _parking(request).replay(conn, request.path_params["lane"], which.id)
    return Answer.of(Replayed(replayed))


@delete("/messages/parked/{lane}/{id}", gives={204: None}, refuses=(*ABSENT, NoSuchParkedMessage), named=LANE | ID)
async def drop_parked(request: Request) -> Answer:
    """Forget a parked message."""
    async with request.db.transaction() as conn:
        await _parking(request).drop(conn, request.path_params["lane"], request.path_params["id"])
    return Answer(status=204)


def _parking(request: Request) -> Parking:
    parking: Any = request.app.state.parking
    assert isinstance(parking, Parking)
    return parking


ROUTES = [get_parked, replay_parked, drop_parked]
