"""Lanes: messages that this product takes, each an operation in its own transaction, its effect once per message id.

    main = Lane("example.main", exchange="example.exchange")

    @main.takes(NewStudent)
    async def add_from_message(conn: Connection, message: NewStudent) -> None: ...

    LANES = [main]

A message that cannot be read, or whose operation raises a Problem, is parked at once in `example.main.error`, for
people. After an accident, or a Problem that says "not now" (5xx), it waits in `example.main.dlq.5`, then in the queue
of the next delay, and is parked after the last. While the database is away it waits where it is.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kinfolk.kit.db import Connection
from kinfolk.kit.documents import read_json
from kinfolk.kit.heavy import in_process

T = TypeVar("T")
M = TypeVar("M")
Operation = Callable[[Connection, T], Awaitable[object]]

DELAYS_SECONDS = (5.0, 30.0, 300.0)
LARGE_BODY_BYTES = 1_048_576


class Lane:
    """A work queue with what belongs to it, and the operation that takes its messages."""

    shape: type[Any]
    operation: Operation[Any]

    def __init__(
        self,
        name: str,
        *,
        exchange: str,
        delays_seconds: Sequence[float] = DELAYS_SECONDS,
        vhost: str | None = None,
        batch: int = 50,
        at_once: int = 4,
        limit_seconds: float = 60.0,
    ) -> None:
        """`exchange` is direct and durable, the lane's name is the routing key; `vhost` is a name of `--amqp-vhosts`.

        Up to `batch` messages that wait share a transaction while all goes well; when one of them fails, each gets its
        own. An operation that takes long, or whose message is large, sets it to 1. `at_once` transactions run at a
        time, none for longer than `limit_seconds`, the wait for the database not counted.
        """
        self.name = name
        self.exchange = exchange
        self.delays_seconds = tuple(delays_seconds)
        self.vhost = vhost
        self.batch = batch
        self.at_once = at_once
        self.limit_seconds = limit_seconds
        self._read: Callable[[bytes], Any] | None = None

    @property
    def parking(self) -> str:
        """The queue that holds what people must look at."""
        return f"{self.name}.error"

    def delay_queue(self, seconds: float) -> str:
        return f"{self.name}.dlq.{seconds:g}"

    def takes(
        self, shape: type[M], read: Callable[[bytes], Any] | None = None
    ) -> Callable[[Operation[Any]], Operation[Any]]:
        """Let the operation below take each message, which is a `shape` in JSON.

        `read` makes something else of the body, and raises Problems; where the body is large it is called in a
        process of its own.
        """

        def decorate(operation: Operation[Any]) -> Operation[Any]:
            self.shape, self._read, self.operation = shape, read, operation
            return operation

        return decorate

    async def read(self, body: bytes) -> Any:
        """What the operation takes. Raises MalformedJson, InvalidDocument with every bad place, or as `read` does."""
        if self._read is None:
            return read_json(body, self.shape)
        if len(body) <= LARGE_BODY_BYTES:
            return self._read(body)
        return await in_process(self._read, body)
