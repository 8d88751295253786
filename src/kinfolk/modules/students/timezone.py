"""What time it is elsewhere: asked of an outside service, where there is one, else of the machine's zone data."""

import re
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from kinfolk.kit import problems
from kinfolk.kit.outside import Outside

SERVICE = Outside("timezone", limit_seconds=5.0, limit_bytes=65_536)
PART = re.compile(r"[A-Za-z0-9_+-]{1,64}")


class NoSuchTimezone(problems.NotFound):
    """There is no such place among the time zones."""


REFUSED = (NoSuchTimezone, problems.BadGateway, problems.GatewayTimeout)


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """A time zone as the IANA names it, in two parts: letters, digits, `_`, `-` and `+`."""

    area: Annotated[str, Meta(description="Such as Europe.")]
    city: Annotated[str, Meta(description="Such as Moscow.")]


class Clock(Struct, frozen=True):
    """The time there, with its distance from UTC."""

    timezone: str
    datetime: str


class Told(Struct):
    """What we read of the service's answer."""

    datetime: Annotated[datetime, Meta(tz=True)]


async def read_clock(place: Place) -> Clock:
    """The clock there. Raises NoSuchTimezone; GatewayTimeout and BadGateway where the service is to blame."""
    if not (PART.fullmatch(place.area) and PART.fullmatch(place.city)):
        raise NoSuchTimezone
    now = await _ask_service(place) if SERVICE.is_known else _ask_machine(place)
    return Clock(f"{place.area}/{place.city}", now.isoformat(timespec="seconds"))


async def _ask_service(place: Place) -> datetime:
    reply = await SERVICE.get(place.area, place.city, expects=(404,))
    if reply.status == 404:
        raise NoSuchTimezone
    return reply.document(Told).datetime


def _ask_machine(place: Place) -> datetime:
    try:
        return datetime.now(ZoneInfo(f"{place.area}/{place.city}"))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, such as America/Indiana
        raise NoSuchTimezone from error
