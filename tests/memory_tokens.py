"""Tokens in memory, for fast tests."""

from time import monotonic
from typing import Any, Self

from kinfolk.kit.auth import Who


class MemoryTokens:
    def __init__(self) -> None:
        self._kept: dict[str, tuple[Who, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: Any) -> None:
        pass

    async def keep(self, _conn: Any, token: str, who: Who, seconds: int) -> None:
        self._kept[token] = who, monotonic() + seconds

    async def look_up(self, token: str) -> Who | None:
        who, until = self._kept.get(token, (None, 0.0))
        return who if monotonic() < until else None

    async def revoke(self, _conn: Any, token: str) -> None:
        self._kept.pop(token, None)

    async def revoke_all(self, _conn: Any, user_id: int) -> None:
        self._kept = {token: kept for token, kept in self._kept.items() if kept[0].user_id != user_id}
