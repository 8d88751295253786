"""Who asks while others are being answered is answered with the next: one round trip for many instead of one each."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeAlias, TypeVar

from kinfolk.kit.log import facts, note, spent

Ask = TypeVar("Ask")
Given = TypeVar("Given")
_Outcome: TypeAlias = tuple[Given | Exception, dict[str, Any]]
_Question: TypeAlias = tuple[Ask, asyncio.Future[_Outcome[Given]]]


class Gathering(Generic[Ask, Given]):
    """Rounds, one after another; a question waits for the end of the round under way and goes into the next."""

    def __init__(
        self, together: Callable[[list[Ask]], Awaitable[Sequence[Given | Exception]]], *, most: int = 100
    ) -> None:
        """`together` answers at most `most` questions, each in its place.

        An exception in a place is raised to whoever asked there, and one that `together` raises to everybody in the
        round. It runs in no request's context: what it notes and spends joins the line of each who asked.
        """
        self._together = together
        self._most = most
        self._waiting: deque[_Question[Ask, Given]] = deque()
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, one: Ask) -> Given:
        """The answer to `one`. A caller who is cancelled takes back what no round has begun, and harms nobody else."""
        answer: asyncio.Future[_Outcome[Given]] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._go_round(), context=Context())
        given, learnt = await answer
        spent(learnt.get("db_ms", 0.0) / 1_000)
        note(**{name: value for name, value in learnt.items() if name != "db_ms"})
        if isinstance(given, Exception):
            raise given
        return given

    async def _go_round(self) -> None:
        batch: list[_Question[Ask, Given]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [(one, answer) for one, answer in batch if not answer.done()]
                if batch:
                    await self._answer(batch)
        finally:
            self._rounds = None
            for _, answer in (*batch, *self._waiting):  # all have theirs, unless the process is ending
                answer.cancel()
            self._waiting.clear()

    async def _answer(self, batch: list[_Question[Ask, Given]]) -> None:
        outcomes: Sequence[Given | Exception]
        with facts() as learnt:
            try:
                outcomes = await self._together([one for one, _ in batch])
                assert len(outcomes) == len(batch), "an answer for each question"
            except Exception as error:
                outcomes = [error] * len(batch)
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            if not answer.done():
                answer.set_result((outcome, learnt))
