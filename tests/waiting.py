"""Waiting for a state, never for a moment: the deadline is one that only a fault reaches."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 120


def wait_until(holds: Callable[[], Any]) -> None:
    """Fails where it does not come to pass."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to pass in {PATIENCE_SECONDS} s"
        time.sleep(0.02)


async def until(holds: Callable[[], Any]) -> None:
    """As `wait_until`, while the event loop goes on."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)
