"""What time it is elsewhere: asked of an outside service, where there is one, else of the machine's zone data."""

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from kinfolk.kit import problems
from kinfolk.kit.outside import Outside, is_plain

SERVICE = Outside("timezone", limit_seconds=5.0, limit_bytes=65_536)


class NoSuchTimezone(problems.NotFound):
    """There is no such place among the time zones."""


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """A time zone as the IANA names it, in two parts: letters, digits, `_`, `-` and `+`."""

    area: Annotated[str, Meta(description="Such as Europe.")]
    city: Annotated[str, Meta(description="Such as Moscow.")]


class Clock(Struct, frozen=True):
    """The time there, with its distance from UTC."""

    timezone: str
    datetime: str


class Told(Struct):  # of what the service answers, this is read
    datetime: Annotated[datetime, Meta(tz=True)]


MOSCOW = Clock("Europe/Moscow", "2020-11-21T18:04:05+03:00")
REFUSED = (NoSuchTimezone, problems.BadGateway, problems.GatewayTimeout)


async def read_clock(place: Place) -> Clock:
    """The clock there. Raises NoSuchTimezone; GatewayTimeout and BadGateway where the service is to blame."""
    if not (is_plain(place.area) and is_plain(place.city)):
        raise NoSuchTimezone
    name = f"{place.area}/{place.city}"
    if SERVICE.is_known:
        reply = await SERVICE.get(place.area, place.city, absent=NoSuchTimezone())
        now = reply.document(Told).datetime
    else:
        try:
            now = datetime.now(ZoneInfo(name))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder, such as America/Indiana
            raise NoSuchTimezone from error
    return Clock(name, now.isoformat(timespec="seconds"))
