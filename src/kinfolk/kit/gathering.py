"""Who asks while others are being answered is answered with the next: one round trip for many instead of one each."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from time import perf_counter
from typing import Any, Generic, TypeAlias, TypeVar

from kinfolk.kit.log import facts, note, spent

PATIENCE = 0.6
MOST_PATIENCE_SECONDS = 0.005

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
        self._expected = 1
        self._patience_seconds = 0.0
        self._all_here: asyncio.Event | None = None

    async def ask(self, one: Ask) -> Given:
        """The answer to `one`. A caller who is cancelled takes back what no round has begun, and harms nobody else."""
        answer: asyncio.Future[_Outcome[Given]] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._all_here is not None and len(self._waiting) >= self._expected:
            self._all_here.set()
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
                await self._wait_for_others()
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [(one, answer) for one, answer in batch if not answer.done()]
                if batch:
                    begun = perf_counter()
                    await self._answer(batch)
                    self._patience_seconds = min(PATIENCE * (perf_counter() - begun), MOST_PATIENCE_SECONDS)
                self._expected = min(len(batch) + len(self._waiting), self._most)
        finally:
            self._rounds = None
            for _, answer in (*batch, *self._waiting):  # all have theirs, unless the process is ending
                answer.cancel()
            self._waiting.clear()

    async def _wait_for_others(self) -> None:
        """Whoever was answered a moment ago asks again in a moment; rounds of one and of all others would take turns.

        So a round waits, for a part of the time that the last one took, until as many are here as were then.
        """
        if len(self._waiting) >= self._expected:
            return
        self._all_here = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, self._all_here.set)
        try:
            await self._all_here.wait()
        finally:
            timer.cancel()
            self._all_here = None

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
