"""Registers that come as messages."""

from datetime import UTC, datetime

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.lanes import Lane
from kinfolk.modules.citizens.imports import add_import
from kinfolk.modules.citizens.register import LARGEST_REGISTER_BYTES, NewImport, Register, read_register

main = Lane("imports.main", exchange="imports.exchange", batch=1, at_once=1, limit_seconds=300)


class RegisterTooLarge(problems.TooLarge):
    """The register is larger than we take."""


def read_arrived(body: bytes) -> Register:
    """As a register that is posted. Raises RegisterTooLarge, and what `read_register` does."""
    if len(body) > LARGEST_REGISTER_BYTES:
        raise RegisterTooLarge(limit_bytes=LARGEST_REGISTER_BYTES)
    return read_register(body, datetime.now(UTC).date())


@main.takes(NewImport, read_arrived)
async def add_from_message(conn: Connection, register: Register) -> None:
    """Add a register of citizens, all or nothing."""
    await add_import(conn, register)


LANES = [main]
