"""The pool of connections, transactions, and the one connection that listens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import Context
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import asyncpg

from kinfolk.kit import problems
from kinfolk.kit.gathering import Gathering
from kinfolk.kit.log import note, spent, write_line

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Ask = TypeVar("Ask")
Given = TypeVar("Given")
Together: TypeAlias = Callable[[Connection, list[Ask]], Awaitable[Sequence[Given | Exception]]]

# What the server says when it is restarting, full or not yet there. Also InterfaceError means this, but only when the
# connection is lost: else it is a mistake of ours.
AWAY: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DiskFullError,
    asyncpg.InternalClientError,  # it has read that the server ends it, and not yet that it has ended
    asyncpg.InvalidCachedStatementError,  # the tables were made anew (a restored dump): the next try finds them
)
NOT_LET_IN: tuple[type[Exception], ...] = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What connecting may raise."""


# Plans must not depend on statistics: those of a new import are not there yet, and a session keeps the plan by which
# it checks a foreign key, made perhaps when the table was tiny. Where an index fits, it is taken. Nor do they depend on
# the values of a call: one plan of a statement serves a session, and making it takes longer than most of them run.
SESSION = {
    "application_name": "kinfolk",
    "timezone": "UTC",
    "jit": "off",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
}


EVENTS_CHANNEL = "ch_kinfolk_events"  # known to who writes statements and to who runs them
LIFE_SIGN_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0


class DatabaseAway(problems.Unavailable):
    """The database does not answer just now."""


class Database:
    """PostgreSQL as one process sees it: a pool that is filled on demand and mends itself."""

    def __init__(self, url: str, *, size: int = 10, wait_seconds: float = 10.0) -> None:
        """`url` as libpq writes it; `wait_seconds` bounds the wait for a free connection and for connecting."""
        self.size = size
        self.url = url
        self._wait_seconds = wait_seconds
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._gatherings: dict[Any, Gathering[Any, Any]] = {}
        self._ears = _Ears(self)

    async def __aenter__(self) -> "Database":
        """Make the pool. It connects when first asked: a database away does not keep a process from starting."""
        self._pool = asyncpg.create_pool(
            self.url,
            min_size=0,
            max_size=self.size,
            timeout=self._wait_seconds,
            max_inactive_connection_lifetime=600,
            reset=_nothing_to_reset,
            server_settings=SESSION,
        )
        await self._pool
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._pool is not None
        pool, self._pool = self._pool, None
        await self._ears.close()
        try:
            await asyncio.wait_for(pool.close(), self._wait_seconds)
        except TimeoutError:  # a connection still at work has had its time
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; each statement is its own transaction.

        Raises DatabaseAway when there is none within `wait_seconds`, or when it is lost. What the code inside raises
        on its own account, be it a TimeoutError, stays what it is.
        """
        pool = self._pool
        assert pool is not None, "the database is not open"
        try:
            conn = await pool.acquire(timeout=self._wait_seconds)
        except NOT_LET_IN as error:
            raise _away(error) from error
        try:
            yield conn
        except AWAY as error:
            raise _away(error) from error
        except asyncpg.InterfaceError as error:
            if _is_lost(conn):
                raise _away(error) from error
            raise
        finally:
            await pool.release(conn)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction: committed at the end, rolled back by any exception."""
        async with self.connection() as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection that may only read, and whose statements all see one state of the database."""
        async with self.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            yield conn

    @asynccontextmanager
    async def apart(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection beside the pool. Raises what NOT_LET_IN says."""
        conn = await asyncpg.connect(
            self.url, timeout=self._wait_seconds, command_timeout=self._wait_seconds, server_settings=SESSION
        )
        try:
            yield conn
        finally:
            conn.terminate()  # nothing is under way, and a server that has gone would be waited for

    def listen(self, channel: str, on_told: Callable[[str], None], on_begin: Callable[[], None]) -> "Ear":
        """Hear what NOTIFY tells on a channel, until the ear's `end`; all that listen share one connection.

        `on_begin` is called whenever hearing begins, also after the connection was lost: what was told before was not
        heard.
        """
        return self._ears.add(Ear(channel, on_told, on_begin, self._ears))

    async def gathered(self, operation: Together[Ask, Given], one: Ask) -> Given:
        """What `operation` gives for `one`, whom it is given together with all others who wait for it.

        It begins after this call did, so it sees all that was committed before. Raises what it gives in this place.
        """
        return await self._gathered(operation, one, self.connection)

    async def gathered_change(self, operation: Together[Ask, Given], one: Ask) -> Given:
        """As `gathered`, in one transaction for all of them: an exception that it raises undoes the work of all."""
        return await self._gathered(operation, one, self.transaction)

    async def _gathered(
        self, operation: Together[Ask, Given], one: Ask, begin: Callable[[], AbstractAsyncContextManager[Connection]]
    ) -> Given:
        gathering = self._gatherings.get(operation)
        if gathering is None:

            async def together(asked: list[Ask]) -> Sequence[Given | Exception]:
                async with begin() as conn:
                    return await operation(conn, asked)

            gathering = self._gatherings[operation] = Gathering(together)
        given: Given = await gathering.ask(one)
        return given


class Ear:
    """One that listens to a channel."""

    def __init__(
        self, channel: str, on_told: Callable[[str], None], on_begin: Callable[[], None], ears: "_Ears"
    ) -> None:
        self.channel = channel
        self.begun = asyncio.Event()
        """Set while it hears."""
        self._on_told = on_told
        self._on_begin = on_begin
        self._ears = ears

    def begin(self) -> None:
        self.begun.set()
        self._on_begin()

    def hear(self, _conn: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._on_told(payload)

    def end(self) -> None:
        """Hear no more."""
        self._ears.remove(self)


class _Ears:
    """Those that listen, and their connection: there while there are any, and made anew whenever it is lost."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._all: list[Ear] = []
        self._is_stirred = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def add(self, ear: Ear) -> Ear:
        self._all.append(ear)
        self._is_stirred.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), context=Context())
        return ear

    def remove(self, ear: Ear) -> None:
        self._all.remove(ear)
        ear.begun.clear()
        self._is_stirred.set()

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        pause_seconds = 0.0
        try:
            while self._all:
                try:
                    async with self._db.apart() as conn:
                        pause_seconds = 0.0
                        await self._hear(conn)
                    reason = "the connection was lost"
                except Exception as error:  # whatever it is, nobody may listen in vain
                    reason = f"{type(error).__name__}: {error}"
                if self._all:
                    for ear in self._all:
                        ear.begun.clear()
                    pause_seconds = min(pause_seconds * 2 or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                    line = {"event": "listening_away", "reason": reason, "again_seconds": pause_seconds}
                    write_line(line, logging.WARNING)
                    await asyncio.sleep(pause_seconds)
        finally:
            self._running = None

    async def _hear(self, conn: Any) -> None:
        """Until it is lost or nobody listens; a server that went without a word is noticed by its silence."""
        conn.add_termination_listener(lambda _conn: self._is_stirred.set())
        heard: list[Ear] = []
        while self._all and not conn.is_closed():
            self._is_stirred.clear()
            for ear in [ear for ear in heard if ear not in self._all]:
                await conn.remove_listener(ear.channel, ear.hear)
                heard.remove(ear)
            for ear in [ear for ear in self._all if ear not in heard]:
                await conn.add_listener(ear.channel, ear.hear)
                heard.append(ear)
                ear.begin()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stirred.wait(), LIFE_SIGN_SECONDS)
            if not conn.is_closed():
                await conn.execute("SELECT 1")


def _is_lost(conn: Connection) -> bool:
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:  # the pool takes a connection that closes out of our hands
        return True


def _away(error: Exception) -> DatabaseAway:
    note(database=f"{type(error).__name__}: {error}")  # to the log; whoever asks need not know
    return DatabaseAway()


async def copy(conn: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Load rows by binary COPY, in the order of `columns`."""
    begun = perf_counter()
    try:
        await conn.copy_records_to_table(table, records=rows, columns=columns)
    finally:
        spent(perf_counter() - begun)


async def _nothing_to_reset(conn: Any) -> None:
    """No statement of ours changes a session, so the round trip of asyncpg's RESET ALL is saved."""
