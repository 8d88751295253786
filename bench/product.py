"""A product of the bench's own on the same kit: a job and a message, each of which inserts a row, and nothing else.

`python -m bench.product work …` is `kinfolk work …` of this product.
"""

import sys
from typing import Annotated

from msgspec import Meta, Struct

import kinfolk.app
from kinfolk.kit.db import Connection
from kinfolk.kit.jobs import job
from kinfolk.kit.lanes import Lane
from kinfolk.kit.module import Module

ROWS = "CREATE TABLE bench_rows (number bigint NOT NULL)"
INSERT = "INSERT INTO bench_rows VALUES ($1)"


class Numbered(Struct, frozen=True, forbid_unknown_fields=True):
    """A message."""

    number: Annotated[int, Meta(ge=0)]


lane = Lane("bench.main", exchange="bench.exchange")


@lane.takes(Numbered)
async def take(conn: Connection, message: Numbered) -> None:
    """One insert."""
    await conn.execute(INSERT, message.number)


@job(name="bench.row")
async def add_row(conn: Connection, *, number: int) -> None:
    """One insert."""
    await conn.execute(INSERT, number)


if __name__ == "__main__":
    kinfolk.app.MODULES = (Module(name="bench", description="The bench's.", lanes=[lane], jobs=[add_row]),)
    from kinfolk.cli import run

    sys.exit(run(sys.argv[1:]))
