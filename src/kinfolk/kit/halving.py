"""Doing something to many at once, where one of them may be what it fails on."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from kinfolk.kit.db import Connection

T = TypeVar("T")


async def spared(conn: Connection, many: Sequence[T], operation: Callable[[Sequence[T]], Awaitable[object]]) -> list[T]:
    """Do it to all but those it fails on, who are returned: found by halving, they cost the others little.

    Each call of `operation` is in a transaction inside that of `conn`.
    """
    try:
        async with conn.transaction():
            await operation(many)
    except Exception:  # whatever is wrong with one must not stop the rest
        if len(many) == 1:
            return list(many)
        middle = len(many) // 2
        return await spared(conn, many[:middle], operation) + await spared(conn, many[middle:], operation)
    return []
