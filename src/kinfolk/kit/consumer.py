"""The consumer: takes what arrives on the lanes, does it, and tells RabbitMQ what became of it.

A connection that is lost is not mended: everything on it is cancelled, rolled back, and begun anew on the next one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import aiormq
import prometheus_client  # noqa: F401  # here, before the fork, so that it is shared

from kinfolk.kit import events, inbox, log, problems
from kinfolk.kit.arrivals import Arrival, reason
from kinfolk.kit.db import Database, DatabaseAway
from kinfolk.kit.lanes import Lane
from kinfolk.kit.metrics import message_metrics
from kinfolk.kit.rabbit import AWAY, Amqp, Channel, Delivered, connected, declare, next_of, publish, shown_id
from kinfolk.kit.role import Main

T = TypeVar("T")

SECONDS_TOGETHER = 1.0
"""What a batch may take: who waits beside a slow one waits no longer than this."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
QUIET_SECONDS, SECONDS_TO_FILL = 0.3, 1.0
RETURNS_BEFORE_CARE = 2
"""A message that came back so often is done by itself: it may be what ends its consumers."""
DEATHS_BEFORE_PARKING = 5


class DeadlyMessage(problems.Unprocessable):
    """Whoever worked on it died, again and again."""


def consumer(db: Database, lanes: Sequence[Lane], amqp: Amqp) -> Main:
    """The work of the role: all lanes, until told to end; then what has arrived is finished. Raises NoBroker."""
    by_address: dict[str, list[Lane]] = {}
    for lane in lanes:
        by_address.setdefault(amqp.address(lane.vhost), []).append(lane)

    async def main(on_ready: Callable[[], None], ending: asyncio.Event) -> None:
        links = [_Link(db, address, its_lanes, amqp, ending) for address, its_lanes in by_address.items()]
        keeping = [asyncio.ensure_future(link.keep()) for link in links]
        try:
            for link in links:
                await _first_of(link.is_tried.wait(), *keeping)
            on_ready()
            await asyncio.gather(*keeping)
        finally:
            await _cancelled(*keeping)

    return main


class _Link:
    """The connection to one vhost, made again for as long as there is work."""

    def __init__(self, db: Database, address: str, lanes: Sequence[Lane], amqp: Amqp, ending: asyncio.Event) -> None:
        self.is_tried = asyncio.Event()
        self._db = db
        self._address = address
        self._lanes = lanes
        self._amqp = amqp
        self._ending = ending
        self._pause = FIRST_PAUSE_SECONDS

    async def keep(self) -> None:
        """Work until told to end. While RabbitMQ is away, try again after growing pauses."""
        while not self._ending.is_set():
            try:
                async with connected(self._address) as connection:
                    await self._work(connection)
            except AWAY as error:
                line = {"event": "broker_away", "lanes": ",".join(lane.name for lane in self._lanes)}
                log.write_line(line | {"reason": reason(error), "again_seconds": self._pause}, logging.WARNING)
                self.is_tried.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    async def _work(self, connection: aiormq.Connection) -> None:
        """Returns when told to end and all that arrived is done; raises one of AWAY when the connection is lost."""
        working = []
        try:
            for lane in self._lanes:
                channel = await connection.channel()
                delays_seconds = self._amqp.delays(lane)
                await declare(channel, lane, delays_seconds)
                work = _LaneWork(self._db, lane, channel, delays_seconds)
                working.append(asyncio.ensure_future(work.run(self._ending)))
            self.is_tried.set()
            self._pause = FIRST_PAUSE_SECONDS
            await _first_of(_lost(connection), _all_of(working))
        finally:
            await _cancelled(*working)


class _LaneWork:
    """One lane on one connection."""

    def __init__(self, db: Database, lane: Lane, channel: Channel, delays_seconds: tuple[float, ...]) -> None:
        self._db = db
        self._lane = lane
        self._by = f"message:{lane.name}"
        self._channel = channel
        self._delays_seconds = delays_seconds
        self._arrived: asyncio.Queue[Arrival] = asyncio.Queue()
        self._seats = asyncio.Semaphore(lane.at_once)
        self._care = asyncio.Lock()
        self._size = lane.batch
        self._prefetch = 2 * lane.at_once * lane.batch
        self._taken = self._settled = 0
        self._done_while_ending: list[int] | None = None
        self._metrics = message_metrics()
        self._metrics.expect(lane.name)

    async def run(self, ending: asyncio.Event) -> None:
        """Take messages until told to end, then finish those that are here."""
        turns = [asyncio.ensure_future(self._turns()) for _ in range(self._lane.at_once)]
        let_go = asyncio.Event()  # by the broker, as where somebody has deleted the queue
        try:
            self._channel.on_consumer_cancel_callbacks.add(lambda _: let_go.set())
            await self._channel.basic_qos(prefetch_count=self._prefetch)
            consuming = await self._channel.basic_consume(self._lane.name, self._take)
            await _first_of(ending.wait(), _let_go(let_go), _lost(self._channel), *turns)
            self._done_while_ending = []
            await _first_of(self._full_or_quiet(), _lost(self._channel), *turns)
            assert consuming.consumer_tag is not None
            await self._channel.basic_cancel(consuming.consumer_tag)
            await _first_of(self._take_what_came_back(), _lost(self._channel), *turns)
            await _first_of(self._arrived.join(), _lost(self._channel), *turns)
            if self._done_while_ending:  # all that is left, in one word: of many RabbitMQ may lose the last
                await self._channel.basic_ack(max(self._done_while_ending), multiple=True)
                self._done_while_ending.clear()
            await self._channel.close()
        finally:
            await _cancelled(*turns)
            with suppress(*AWAY):
                for tag in self._done_while_ending or ():  # pragma: no cover  # cut off between two words to RabbitMQ
                    await self._channel.basic_ack(tag, wait=False)

    async def _take(self, delivered: Delivered) -> None:
        self._taken += 1
        self._arrived.put_nowait(Arrival(delivered, self._lane.name))

    async def _full_or_quiet(self) -> None:
        """Until RabbitMQ has given us as many as it may, for nothing is acknowledged meanwhile; or has no more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_FILL):
                before = -1
                while before != self._taken and self._taken - self._settled < self._prefetch:
                    before = self._taken
                    await asyncio.sleep(QUIET_SECONDS)

    async def _take_what_came_back(self) -> None:
        """What was on its way while the consumer was cancelled: it is at the head of the queue again, as redelivered.

        The answer to the first that was not comes after all that was on its way, so a second one proves the end.
        """
        others = 0
        while others < 2:
            delivered = await next_of(self._channel, self._lane.name)
            if delivered is not None:
                await self._take(delivered)
            is_back = delivered is not None and delivered.delivery.redelivered  # type: ignore[union-attr]  # it was got
            others = 0 if is_back else others + 1

    async def _acknowledge(self, arrival: Arrival) -> None:
        if self._done_while_ending is not None:
            self._done_while_ending.append(arrival.tag)
            return
        self._settled += 1
        await self._channel.basic_ack(arrival.tag, wait=False)

    async def _turns(self) -> None:
        while True:
            arrivals = [await self._arrived.get()]
            while len(arrivals) < self._size and not self._arrived.empty():
                arrivals.append(self._arrived.get_nowait())
            await self._settle(arrivals)
            for _ in arrivals:
                self._arrived.task_done()

    async def _settle(self, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            if arrival.returns >= RETURNS_BEFORE_CARE:
                await self._settle_with_care(arrival)
        arrivals = [arrival for arrival in arrivals if arrival.returns < RETURNS_BEFORE_CARE]
        readable = [arrival for arrival in arrivals if await self._is_readable(arrival)]
        if len(readable) > 1 and await self._is_done_together(readable):
            return
        alone = [asyncio.ensure_future(self._do_alone(arrival)) for arrival in readable]
        try:
            await asyncio.gather(*alone)
        finally:
            await _cancelled(*alone)

    async def _settle_with_care(self, arrival: Arrival) -> None:
        """By itself, under a mark that stays if we die: RabbitMQ counts how often it came back, not how often begun."""
        async with self._care:
            deaths = await self._when_database_answers(partial(self._mark, arrival))
            try:
                if deaths >= DEATHS_BEFORE_PARKING:
                    arrival.attempt += deaths - 1
                    await self._fail(arrival, DeadlyMessage())
                elif await self._is_readable(arrival):  # pragma: no branch  # what cannot be read kills nobody
                    await self._do_alone(arrival)
            finally:
                with suppress(DatabaseAway):
                    async with self._db.connection() as conn:
                        await inbox.forget_beginning(conn, self._lane.name, arrival.fingerprint)

    async def _mark(self, arrival: Arrival) -> int:
        async with self._db.connection() as conn:
            return await inbox.note_beginning(conn, self._lane.name, arrival.fingerprint)

    async def _is_readable(self, arrival: Arrival) -> bool:
        """Whether there is something to be done; what cannot be read is sent on."""
        try:
            with log.facts(arrival.request_id) as arrival.facts:
                arrival.check()
                arrival.value = await self._lane.read(arrival.body)
        except Exception as error:
            await self._fail(arrival, error)
            return False
        return True

    async def _is_done_together(self, arrivals: list[Arrival]) -> bool:
        """All in one transaction. Where that fails nothing has happened, and the next batches are smaller."""
        try:
            async with self._seats:
                await self._do(arrivals, SECONDS_TOGETHER)
        except Exception:  # whose fault it is will show when each is done alone
            self._size = max(1, self._size // 2)
            return False
        self._size = min(self._lane.batch, 2 * self._size)
        for arrival in arrivals:
            await self._succeed(arrival)
        return True

    async def _do_alone(self, arrival: Arrival) -> None:
        try:
            await self._when_database_answers(partial(self._do_in_time, arrival))
        except Exception as error:
            await self._fail(arrival, error)
        else:
            await self._succeed(arrival)

    async def _when_database_answers(self, work: Callable[[], Awaitable[T]]) -> T:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await work()
            except DatabaseAway:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _do_in_time(self, arrival: Arrival) -> None:
        async with self._seats:
            await self._do([arrival], self._lane.limit_seconds)

    async def _do(self, arrivals: Sequence[Arrival], limit_seconds: float) -> None:
        """The effect of each that has not had it, and the inbox's knowledge of it.

        The wait for a connection is no time of theirs: while the database is away it may be long.
        """
        async with self._db.connection() as conn, asyncio.timeout(limit_seconds), conn.transaction():
            named = [arrival.message_id for arrival in arrivals if arrival.message_id is not None]
            new = await inbox.new_among(conn, self._lane.name, named) if named else set()
            for arrival in arrivals:
                arrival.is_repeat = arrival.message_id is not None and arrival.message_id not in new
                if not arrival.is_repeat:
                    new.discard(arrival.message_id or "")
                    with log.facts(arrival.request_id, self._by) as arrival.facts, arrival.span:
                        await self._lane.operation(conn, arrival.value)

    async def _succeed(self, arrival: Arrival) -> None:
        await self._acknowledge(arrival)
        self._tell(arrival, "repeated" if arrival.is_repeat else "done")

    async def _fail(self, arrival: Arrival, error: Exception) -> None:
        """To a delay queue, or to where people look: published with a confirm first, acknowledged after."""
        is_answer = isinstance(error, problems.Problem) and error.status < 500
        is_parked = is_answer or arrival.attempt > len(self._delays_seconds)
        if is_parked:
            queue = self._lane.parking
            properties = arrival.parked(self._channel, self._lane.name, error)
        else:
            queue = self._lane.delay_queue(self._delays_seconds[arrival.attempt - 1])
            properties = arrival.delayed(self._channel)
        if properties is None:
            is_parked = True  # by the broker, as it is
            self._settled += 1
            await self._channel.basic_reject(arrival.tag, requeue=False)
        else:
            await publish(self._channel, arrival.body, properties, queue)
            await self._acknowledge(arrival)
        if is_parked:
            await self._tell_others(arrival)
        level = logging.ERROR if is_parked and not is_answer else logging.WARNING
        self._tell(arrival, "parked" if is_parked else "delayed", error, level)

    async def _tell_others(self, arrival: Arrival) -> None:
        """It is parked whether or not anybody is told."""
        with suppress(DatabaseAway):
            async with self._db.connection() as conn:
                await events.tell(conn, "message.parked", lane=self._lane.name, request_id=arrival.request_id)

    def _tell(self, arrival: Arrival, outcome: str, error: Exception | None = None, level: int = logging.INFO) -> None:
        seconds = perf_counter() - arrival.begun
        self._metrics.count(self._lane.name, outcome, seconds)
        line = {
            "event": "message",
            "id": arrival.request_id,
            "lane": self._lane.name,
            "message_id": None if arrival.message_id is None else shown_id(arrival.message_id),
            "attempt": arrival.attempt,
            "outcome": outcome,
            "problem": error.kind() if isinstance(error, problems.Problem) else None,
            "ms": seconds * 1_000,
            **arrival.facts,
        }
        accident = None if isinstance(error, problems.Problem) else error
        log.write_line(line, level, accident)
        told = {"outcome": outcome, "attempt": arrival.attempt, "id": arrival.request_id}
        arrival.span.end(told, accident)


async def _lost(what: aiormq.Connection | Channel) -> None:
    """Raises what it was lost by."""
    await what.closing
    raise aiormq.exceptions.ConnectionClosed(0, "closed")  # pragma: no cover  # it was lost by something


async def _let_go(event: asyncio.Event) -> None:
    """Raises as a lost connection would: all is to be declared and begun anew."""
    await event.wait()
    raise aiormq.exceptions.ConnectionClosed(0, "RabbitMQ has let go of the consumer")


async def _first_of(*awaited: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> None:
    """Wait for the first; raises what it raised. Those that began here are cancelled, tasks given are left alone."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancelled(*(task for task, each in zip(tasks, awaited, strict=True) if task is not each))


async def _all_of(tasks: Sequence[asyncio.Future[None]]) -> None:
    await asyncio.gather(*tasks)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """End them all, and see them end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
