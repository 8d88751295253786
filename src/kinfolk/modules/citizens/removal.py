"""Removing an import, and all that was kept of it."""

from collections.abc import Callable

from kinfolk.kit import audit, forgetting
from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.modules.citizens.imports import Edition, NoSuchImport
from kinfolk.modules.citizens.statements import LAST_EDITION, REMOVED_CITIZENS, REMOVED_KEY, REMOVED_TIES


async def remove_import(conn: Connection, import_id: int, check: Callable[[Edition], None]) -> None:
    """Remove an import: its citizens, their ties, and the Idempotency-Key it came with, which is as good as new.

    `check` sees the last edition and may raise. Raises NoSuchImport. The row of the import goes first: whoever wants
    to change its citizens, or to remove it, waits there and then finds nothing.
    """
    row = await LAST_EDITION.fetchrow_or(conn, NoSuchImport(import_id=import_id), import_id=import_id)
    version, created_at, _told = row
    check(Edition(version, created_at))
    for removed in (REMOVED_TIES, REMOVED_CITIZENS, REMOVED_KEY):
        await removed.execute(conn, import_id=import_id)
    await forgetting.owe(conn, f"imports/{import_id}/")
    await audit.note(conn, "import.removed", import_id=import_id)
    note(import_id=import_id)
