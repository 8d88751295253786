"""A shelf of bytes that processes and machines share: a Redis, which may be away, slow, full or lying."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

from kinfolk.kit import log

T = TypeVar("T")

PATIENCE_SECONDS = 0.25
REST_SECONDS = 5.0
EXPIRY_SECONDS = 3_600
MOST_OWED = 8
CONNECTIONS = 10
SCANNED = 1_000
PROOF_BYTES = 32
LEAST_BYTES_FOR_A_THREAD = 65_536


class Shelf:
    """Where Redis fails, there is nothing on the shelf and nothing is put there, and Redis is left alone for seconds.

    Each value carries a proof that it was put under its name by somebody who knows the secret: whoever else writes to
    this Redis can take values away and cannot forge one.
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
        self._owed: set[asyncio.Task[None]] = set()
        self._resting_until = 0.0
        self._is_told = False

    async def take(self, name: str) -> bytes | None:
        """What was put under this name, if it is still there and whole."""
        value = await self._try(self._redis.get, name)
        if not isinstance(value, bytes) or not await self._aside(is_proved, name, value):
            return None
        return value[PROOF_BYTES:]

    def put(self, name: str, body: bytes) -> None:
        """Put it there in a while; not at all where too much is on its way already."""
        if len(self._owed) < MOST_OWED:
            task = asyncio.create_task(self._put(name, body))
            self._owed.add(task)
            task.add_done_callback(self._owed.discard)

    async def drop(self, beginning: str) -> None:
        """Take away all whose names begin so, also what is on its way there: letters, digits, `:`, `/` and `-`.

        Where Redis is away, they lie there until they expire.
        """
        if self._owed:
            await asyncio.wait(self._owed, timeout=PATIENCE_SECONDS)
        place, is_over = 0, False
        while not is_over:
            found = await self._try(self._redis.scan, place, match=f"{beginning}*", count=SCANNED, is_urgent=True)
            place, names = found or (0, [])
            await self._try(self._redis.unlink, beginning, *names, is_urgent=True)  # it wants one at the least
            is_over = place == 0

    async def is_reachable(self) -> bool:
        return await self._try(self._redis.ping, is_urgent=True) is not None

    async def close(self) -> None:
        """What is owed has its time to be put."""
        if self._owed:
            await asyncio.wait(self._owed, timeout=PATIENCE_SECONDS)
        await self._redis.aclose()

    async def _put(self, name: str, body: bytes) -> None:
        value = await self._aside(proof, name, body) + body
        if await self._try(self._redis.set, name, value, ex=EXPIRY_SECONDS) is not None and self._is_told:
            self._is_told = False
            log.write_line({"event": "redis_back"})

    async def _aside(self, prove: Callable[[bytes, str, bytes], T], name: str, body: bytes) -> T:
        """In a thread, where it takes long."""
        if len(body) < LEAST_BYTES_FOR_A_THREAD:
            return prove(self._secret, name, body)
        return await asyncio.to_thread(prove, self._secret, name, body)

    async def _try(
        self, command: Callable[..., Awaitable[Any]], *words: Any, is_urgent: bool = False, **options: Any
    ) -> Any:
        """What Redis answers; None where it does not, or rests after it did not."""
        if monotonic() < self._resting_until and not is_urgent:
            return None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await command(*words, **options)
        except Exception as error:  # whatever a broken server makes of the client: an answer can be had without it
            self._resting_until = monotonic() + REST_SECONDS
            if not self._is_told:
                self._is_told = True
                log.write_line({"event": "redis_away", "reason": f"{type(error).__name__}: {error}"}, logging.WARNING)
            return None


def is_proved(secret: bytes, name: str, value: bytes) -> bool:
    """Does a value begin with the proof of the rest?"""
    return hmac.compare_digest(proof(secret, name, value[PROOF_BYTES:]), value[:PROOF_BYTES])


def proof(secret: bytes, name: str, body: bytes) -> bytes:
    """That somebody who knows the secret put this under this name."""
    return hmac.digest(secret, b"%s\n%s" % (name.encode(), body), "sha256")
