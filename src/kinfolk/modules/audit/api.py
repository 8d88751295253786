"""The HTTP face of the audit log."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from kinfolk.kit.audit import Noted, list_noted
from kinfolk.kit.chain import seal_all
from kinfolk.kit.http import Answer, Request, get
from kinfolk.kit.http.answers import LARGEST_ID, InvalidQuery
from kinfolk.kit.problems import BadPlace

CORRECTED = Noted(
    2,
    datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC),
    "citizen.changed",
    "user:7",
    "8f14e45fceea167a",
    "192.0.2.1",
    1,
    7,
    {"fields": ["town"]},
    "1b" * 32,
    "2c" * 32,
)

Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Meta(ge=0, le=LARGEST_ID)]


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """Which entries to list."""

    deed: Annotated[Name | None, Meta(description="Only deeds of this name.")] = None
    by: Annotated[Name | None, Meta(description="Only what they did: `user:7`, `stranger`, `command`, …")] = None
    import_id: Annotated[Number | None, Meta(description="Only what was done to this import.")] = None
    citizen_id: Annotated[Number | None, Meta(description="Only what was done to this citizen of it.")] = None
    limit: Annotated[int, Meta(ge=1, le=1_000, description="How many at the most.")] = 100
    after: Annotated[Number, Meta(description="Only entries with a greater number.")] = 0


@get("/audit", asks=Asked, gives={200: list[Noted]}, given=[CORRECTED])
async def get_audit(request: Request) -> Answer:
    """Who did what, in the order of the chain."""
    asked = request.asked(Asked)
    if asked.citizen_id is not None and asked.import_id is None:
        raise InvalidQuery([BadPlace("/import_id", "is needed with citizen_id, which is unique only in its import")])
    await seal_all(request.db)
    async with request.db.connection() as conn:
        return Answer.of(
            await list_noted(
                conn,
                deed=asked.deed,
                by=asked.by,
                import_id=asked.import_id,
                citizen_id=asked.citizen_id,
                after=asked.after,
                limit=asked.limit,
            )
        )


ROUTES = [get_audit]
