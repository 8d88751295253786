"""The operator's commands: `kinfolk audit list`, `verify` and `cut`."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from kinfolk.kit import chain
from kinfolk.kit.client import asked, printable, read_answer
from kinfolk.kit.database_url import done_there
from kinfolk.kit.db import Database
from kinfolk.kit.ending import FAILED, OK, Ended, WrongSetting, ends_plainly
from kinfolk.kit.settings import ClientSettings, DatabaseSettings, FileSettings, whole

_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")

app = App("audit", help="Look after the audit log: list, verify, cut.")


class Noted(msgspec.Struct, frozen=True):
    """What we read of an entry."""

    number: int
    happened_at: datetime
    deed: str
    by: str
    request_id: str | None = None
    address: str | None = None
    import_id: int | None = None
    citizen_id: int | None = None
    facts: dict[str, Any] | None = None


@app.command(name="list")
@ends_plainly
def list_noted(
    *,
    deed: Annotated[str | None, Parameter(help="Only deeds of this name, such as citizen.changed.")] = None,
    by: Annotated[str | None, Parameter(help="Only what they did: user:7, stranger, command, …")] = None,
    import_id: Annotated[int | None, Parameter(converter=whole, help="Only what was done to this import.")] = None,
    citizen_id: Annotated[int | None, Parameter(converter=whole, help="Only to this citizen of it.")] = None,
    after: Annotated[int, Parameter(converter=whole, help="Only entries with a greater number.")] = 0,
    limit: Annotated[int, Parameter(converter=whole, help="How many at the most.")] = 100,
    client: ClientSettings = ClientSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """List what was done: number, when, what, by whom, from where, for which request, to whom."""
    query = {
        "deed": deed,
        "by": by,
        "import_id": import_id,
        "citizen_id": citizen_id,
        "after": after,
        "limit": limit,
    }
    answer = asked("GET", "api/v1/audit", client, {name: value for name, value in query.items() if value is not None})
    for noted in read_answer(answer, list[Noted]):
        print(printable(_line(noted)))
    return OK


@app.command
@ends_plainly
def verify(
    *,
    since: Annotated[str | None, Parameter(help="NUMBER:HASH, as an earlier verify printed it.")] = None,
    database: DatabaseSettings = DatabaseSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Follow the chain of hashes through the whole log, in the database itself.

    Names the first entry that was changed, removed or moved, and ends with 1. Else it prints the last number and hash:
    kept elsewhere, they prove later, with --since, that nothing up to there has changed or gone.
    """
    anchor = None if since is None else _anchor(since)

    async def follow(db: Database) -> chain.Verdict:
        await chain.seal_all(db)
        async with db.snapshot() as conn:
            return await chain.verify(conn, anchor)

    found = done_there(database, follow)
    if found.wrong is not None:
        raise Ended(FAILED, found.wrong)
    print(f"{found.entries:,} entries, each as it was noted; the last is {found.last}")
    return OK


@app.command
@ends_plainly
def cut(
    *,
    before: Annotated[datetime, Parameter(help="The first moment that stays, in UTC, such as 2026-01-01.")],
    database: DatabaseSettings = DatabaseSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Remove old entries. That it was done, and how far, becomes an entry; the chain goes on."""
    moment = before.replace(tzinfo=UTC) if before.tzinfo is None else before

    async def remove(db: Database) -> int:
        await chain.seal_all(db)
        async with db.transaction() as conn:
            return await chain.cut(conn, moment)

    print(f"removed {done_there(database, remove):,}")
    return OK


def _anchor(text: str) -> chain.Anchor:
    match = _ANCHOR.fullmatch(text)
    if match is None:
        raise WrongSetting("--since must look like what verify printed: a number, a colon, and 64 hexadecimal digits")
    return chain.Anchor(int(match[1]), bytes.fromhex(match[2]))


def _line(noted: Noted) -> str:
    facts = [f"{noted.number:>8}  {noted.happened_at:%Y-%m-%d %H:%M:%S}  {noted.deed}  {noted.by}"]
    facts += [noted.address or "-", noted.request_id or "-"]
    facts += [] if noted.import_id is None else [f"import {noted.import_id}"]
    facts += [] if noted.citizen_id is None else [f"citizen {noted.citizen_id}"]
    for name, fact in (noted.facts or {}).items():
        facts.append(f"{name} {','.join(fact) if isinstance(fact, list) else fact}")
    return "  ".join(facts)
