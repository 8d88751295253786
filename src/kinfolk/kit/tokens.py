"""Where tokens are kept: in PostgreSQL, which every process shares, or in Redis. Both know a token by its hash only."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

from kinfolk.kit.auth import Tokens, TokensAway, Who
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.log import note
from kinfolk.kit.shelf import PROOF_BYTES, is_proved, proof
from kinfolk.kit.statements import (
    ALL_TOKENS_REVOKED,
    ARE_TOKENS_ELSEWHERE,
    TOKEN_KEPT,
    TOKEN_REVOKED,
    TOKENS_EXPIRED,
    TOKENS_STANDING,
)

T = TypeVar("T")

TOKEN_BYTES = 32
REMEMBERED_SECONDS = 0.5
MOST_REMEMBERED = 10_000
PATIENCE_SECONDS = 1.0
REST_SECONDS = 0.5
CONNECTIONS = 10


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class Embedded:
    """In PostgreSQL: what a transaction changes of a user and of the tokens holds together."""

    def __init__(self, db: Database) -> None:
        """`db` is opened by whoever serves it."""
        self._db = db

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    async def keep(self, conn: Connection, token: str, who: Who, seconds: int) -> None:
        lifetime = timedelta(seconds=seconds)
        await TOKEN_KEPT.execute(conn, token_hash=_hash(token), user_id=who.user_id, role=who.role, lifetime=lifetime)

    async def look_up(self, token: str) -> Who | None:
        return await self._db.gathered(_find_standing, _hash(token))

    async def revoke(self, conn: Connection, token: str) -> None:
        await TOKEN_REVOKED.execute(conn, token_hash=_hash(token))

    async def revoke_all(self, conn: Connection, user_id: int) -> None:
        await ALL_TOKENS_REVOKED.execute(conn, user_id=user_id)


async def _find_standing(conn: Connection, hashes: list[bytes]) -> Sequence[Who | None]:
    found = {row[0]: Who(row[1], row[2]) for row in await TOKENS_STANDING.fetch(conn, hashes=hashes)}
    return [found.get(each) for each in hashes]


async def forget_expired(conn: Connection) -> int:
    """Forget tokens that have expired; how many."""
    return len(await TOKENS_EXPIRED.fetch(conn))


async def are_elsewhere(conn: Connection, user_id: int) -> bool:
    """Are there tokens of this user in a Redis, which whoever knows only the database cannot end?"""
    return await ARE_TOKENS_ELSEWHERE.fetchval(conn, user_id=user_id) is not None


class InRedis:
    """In Redis, which may evict what it likes: a token or a user's series that is gone is a token refused.

    A token is of its user's series; to forget the series is to revoke all of them at once. Each value carries a proof
    that it was put there by somebody who knows the secret, as on the shelf. That there are any of a user stands in
    PostgreSQL, as a row that no token has, see `are_elsewhere`.
    """

    def __init__(self, url: str, secret: str) -> None:
        """`secret` is known to all who share, and to nobody else."""
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._redis = Redis.from_pool(
            BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, protocol=2, retry=Retry(NoBackoff(), 1), health_check_interval=0
            )
        )
        self._secret = secret.encode()
        self._resting_until = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._redis.aclose()

    async def keep(self, conn: Connection, token: str, who: Who, seconds: int) -> None:
        row = {"token_hash": _mark(who.user_id), "user_id": who.user_id, "role": who.role}
        await TOKEN_KEPT.execute(conn, **row, lifetime=timedelta(seconds=seconds))
        await self._try(self._keep(token, who, seconds))

    async def _keep(self, token: str, who: Who, seconds: int) -> None:
        series_name = _series_name(who.user_id)
        await self._redis.set(series_name, secrets.token_hex(16), nx=True)
        series: Any = await self._redis.get(series_name)
        await self._redis.expire(series_name, seconds)
        name = _token_name(token)
        body = f"{who.user_id} {who.role} ".encode() + series
        await self._redis.set(name, proof(self._secret, name, body) + body, ex=seconds)

    async def look_up(self, token: str) -> Who | None:
        return await self._try(self._look_up(token))

    async def _look_up(self, token: str) -> Who | None:
        name = _token_name(token)
        value: Any = await self._redis.get(name)
        if not value or not is_proved(self._secret, name, value):
            return None
        number, role, series = value[PROOF_BYTES:].split()
        user_id = int(number)
        if await self._redis.get(_series_name(user_id)) != series:
            return None
        return Who(user_id, role.decode())

    async def revoke(self, _conn: Connection, token: str) -> None:
        await self._try(self._redis.delete(_token_name(token)))

    async def revoke_all(self, conn: Connection, user_id: int) -> None:
        await TOKEN_REVOKED.execute(conn, token_hash=_mark(user_id))
        await self._try(self._redis.delete(_series_name(user_id)))

    async def _try(self, command: Awaitable[T]) -> T:
        """What Redis answers. Raises TokensAway where it does not, or has not a moment ago."""
        try:
            if monotonic() < self._resting_until:
                raise TokensAway
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await command
        except TokensAway:
            command.close()  # type: ignore[attr-defined]  # a coroutine, which nobody will await
            raise
        except Exception as error:  # whatever a broken server makes of the client: nobody passes
            self._resting_until = monotonic() + REST_SECONDS
            note(redis=type(error).__name__)
            raise TokensAway from error


class Remembered:
    """Tokens that were found to stand, for less than a second: a look-up costs a round trip."""

    def __init__(self, kept: Tokens) -> None:
        self._kept = kept
        self._found: dict[str, tuple[Who | None, float]] = {}

    async def __aenter__(self) -> Self:
        await self._kept.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._kept.__aexit__(kind, error, traceback)

    async def keep(self, conn: Connection, token: str, who: Who, seconds: int) -> None:
        await self._kept.keep(conn, token, who, seconds)

    async def look_up(self, token: str) -> Who | None:
        who, until = self._found.get(token, _NEVER)
        now = monotonic()
        if now < until:
            return who
        who = await self._kept.look_up(token)
        if len(self._found) >= MOST_REMEMBERED:
            self._found.clear()
        if who is not None:
            self._found[token] = who, now + REMEMBERED_SECONDS
        return who

    async def revoke(self, conn: Connection, token: str) -> None:
        await self._kept.revoke(conn, token)
        self._found.pop(token, None)

    async def revoke_all(self, conn: Connection, user_id: int) -> None:
        await self._kept.revoke_all(conn, user_id)
        self._found.clear()


_NEVER: tuple[Who | None, float] = (None, 0.0)


def _hash(token: str) -> bytes:
    """Not slow, as that of a password must be: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("latin-1")).digest()


def _mark(user_id: int | None) -> bytes:
    """In place of a hash, and shorter than any."""
    return f"redis {user_id}".encode()


def _token_name(token: str) -> str:
    return f"kinfolk:token:{_hash(token).hex()}"


def _series_name(user_id: int | None) -> str:
    return f"kinfolk:tokens-of:{user_id}"


def kept_tokens(db: Database, redis_url: str | None, secret: str) -> Tokens:
    """Where a process keeps tokens: in the Redis, where there is one, else in the database."""
    return Remembered(InRedis(redis_url, secret) if redis_url else Embedded(db))
