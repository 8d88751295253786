"""Jobs: operations that are done later, each in one transaction with its being marked done.

    @job(name="students.welcome", retries=(5, 30, 300), limit_seconds=60)
    async def welcome(conn: Connection, *, student_id: int) -> None: ...

    await welcome(conn, student_id=7)  # at once
    job_id = await welcome.later(conn, student_id=7)  # owed in the transaction of `conn`, done after its commit

A Problem that says no (4xx) is an answer: the job has failed. Anything else is an accident, and so is a Problem that
says not now (5xx): the job is tried again after each pause, and has then failed.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from time import monotonic
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from kinfolk.kit import log
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.ledger import Begun, Ledger, Owed

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = (5.0, 30.0, 300.0)
LIMIT_SECONDS = 600.0
SECONDS_BETWEEN_PROGRESS = 0.2


class Job(Generic[P, R]):
    """An operation that can be owed. To call it is to call the operation."""

    def __init__(
        self, operation: Callable[P, Awaitable[R]], name: str, retries: Sequence[float], limit_seconds: float
    ) -> None:
        self.name = name
        self.retries = tuple(retries)
        self.limit_seconds = limit_seconds
        self._operation = operation
        self._arguments = _shape(operation)
        self.__doc__ = operation.__doc__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        return self._operation(*args, **kwargs)

    async def later(self, conn: Connection, *, after: datetime | None = None, **arguments: Any) -> int:
        """Owe it, in the transaction of `conn` and not to be done before `after`; returns the number of the job.

        Raises ValidationError for arguments that the operation does not take.
        """
        (job_id,) = await self.later_each(conn, [arguments], after=after)
        return job_id

    async def later_each(
        self,
        conn: Connection,
        many: Sequence[dict[str, Any]],
        *,
        after: datetime | None = None,
        origins: Sequence[log.Origin] | None = None,
    ) -> list[int]:
        """Owe it once for each of these arguments, at the cost of one.

        `origins` are what these go back to, where it is not all one.
        """
        owed = [
            Owed(msgspec.json.encode(msgspec.convert(arguments, self._arguments)).decode(), *origin[:2])
            for arguments, origin in zip(many, origins or [log.origin()] * len(many), strict=True)
        ]
        return await _ledger.owe(conn, self, owed, after)

    async def run(self, conn: Connection, arguments: str) -> str | None:
        """Do it with arguments as they were owed; its result as JSON. Raises DecodeError where it takes others now."""
        read = msgspec.json.decode(arguments, type=self._arguments)
        operation: Callable[..., Awaitable[Any]] = self._operation
        result = await operation(conn, **msgspec.structs.asdict(read))
        return None if result is None else msgspec.json.encode(result).decode()


def job(
    *, name: str, retries: Sequence[float] = RETRIES, limit_seconds: float = LIMIT_SECONDS
) -> Callable[[Callable[P, Awaitable[R]]], Job[P, R]]:
    """Make an operation one that can be owed.

    `name` is what a job is kept by: it stays when the function moves. `retries` are the pauses between attempts, in
    seconds. An attempt that takes longer than `limit_seconds`, once it has a connection, is an accident.
    """

    def decorate(operation: Callable[P, Awaitable[R]]) -> Job[P, R]:
        return Job(operation, name, retries, limit_seconds)

    return decorate


def _shape(operation: Callable[..., Any]) -> type[msgspec.Struct]:
    """The keywords of the operation; its first parameter is the connection."""
    _conn, *parameters = inspect.signature(operation).parameters.values()
    fields: list[Any] = [
        (each.name, each.annotation) if each.default is each.empty else (each.name, each.annotation, each.default)
        for each in parameters
    ]
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True, module=operation.__module__)


_ledger: Ledger = Ledger()


def swap_ledger(ledger: Ledger) -> Ledger:
    """Owe jobs elsewhere from now on; returns where they were owed. For tests."""
    global _ledger  # one for the process, so that no operation must carry it
    before, _ledger = _ledger, ledger
    return before


class Attempt:
    """What `progress` knows of the job under way."""

    def __init__(self, db: Database, ledger: Ledger, begun: Begun) -> None:
        self._db = db
        self._ledger = ledger
        self._begun = begun
        self._told = 0.0

    async def progress(self, done: int, total: int) -> None:
        now = monotonic()
        if done < total and now < self._told + SECONDS_BETWEEN_PROGRESS:
            return
        self._told = now
        await self._ledger.progress(self._db, self._begun, done, total)


attempt_under_way: ContextVar[Attempt] = ContextVar("attempt_under_way")


async def progress(done: int, total: int) -> None:
    """Tell how far the job under way is: seen at once, even before its transaction ends. Elsewhere it does nothing.

    It may be called as often as one likes: what comes within a fifth of a second of the last is not written, unless
    it is the end.
    """
    attempt = attempt_under_way.get(None)
    if attempt is not None:
        await attempt.progress(done, total)
