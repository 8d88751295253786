"""Those who listen at this process: what is told goes to each who may see it, in one write for all of a moment."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from datetime import UTC, datetime
from resource import RLIMIT_NOFILE, getrlimit
from time import perf_counter
from typing import Any, get_args

import msgspec

from kinfolk.kit import log, problems
from kinfolk.kit.auth import Auth, Grant, Role, Rule, Who
from kinfolk.kit.db import Database, Ear
from kinfolk.kit.events import Notice, listen
from kinfolk.kit.http.websocket import OUR_FAULT, TOKEN_DEAD, TOO_MANY, TRY_LATER, Socket, text_frame
from kinfolk.kit.metrics import socket_metrics

GATHERING_SECONDS = 0.05
"""A write to each of 1,000 sockets takes some 10 ms: twenty times a second at the most, whatever is told."""
MOST_AT_A_TIME = 100
MOST_BATCH_BYTES = 65_536
MOST_WAITING_BYTES = 1_048_576
MOST_OF_ONE_USER = 100
"""A page that opens socket after socket must not take everybody's: tabs and programs of one person are fewer."""
SPARE_FILES = 256
"""Of those that the system lets a process open, for requests, the database and logs."""
PATIENCE_SECONDS = 5.0
ROUND_SECONDS = 1.0
CONFIRMED_SECONDS = 3.0
LOOK_UP_SECONDS = 2.0
UNCONFIRMED_SECONDS = 6.0
"""A revoked token ends its socket within 10 seconds, also where the store of tokens cannot be reached: the sum of these
is at most 9, and what is remembered of a token less than one."""

MISSED = "events.missed"
"""Told to all when something may not have reached them: whoever keeps a copy reads it anew."""
NO_RULE = Rule()
FOR_ALL = Rule(supplier="all", analyst="all")
UNKNOWN = object()
ROLES: tuple[Role, ...] = get_args(Role)


class EventsAway(problems.Unavailable):
    """Nothing can be heard just now, so there is nothing to tell."""


class TooManySockets(problems.Unavailable):
    """As many listen already as this process can hold."""


class _Told(msgspec.Struct, frozen=True):
    """One event, as it goes out."""

    rule: Rule
    owner: str | None
    frame: bytes

    def is_for(self, who: Who) -> bool:
        grant: Grant = getattr(self.rule, who.role)
        return grant == "all" or (grant == "own" and self.owner is not None and self.owner == who.by)


class Audience:
    """The sockets of one process. It hears what is told as long as somebody listens."""

    def __init__(self, db: Database, auth: Auth, most: int) -> None:
        """The rules of `auth` say who is told what; what has none is for administrators."""
        self._metrics = socket_metrics()
        self._auth = auth
        self._most = most
        self._db = db
        self._ear: Ear | None = None
        self._sockets: dict[Socket, None] = {}
        self._watching: asyncio.Task[None] | None = None
        self._asking = 0
        self._waiting: list[_Told] = []
        self._waiting_bytes = 0
        self._has_missed = False
        self._handing: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Wait until all that is told from now on is heard. Raises TooManySockets and EventsAway."""
        if len(self._sockets) + self._asking >= min(self._most, getrlimit(RLIMIT_NOFILE)[0] - SPARE_FILES):
            raise TooManySockets
        self._asking += 1
        try:
            await asyncio.wait_for(self._hear().begun.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            raise EventsAway from None
        finally:
            self._asking -= 1

    def join(self, socket: Socket) -> None:
        """Where its user has too many already, it is told so and closed."""
        user_id = socket.who.user_id
        if user_id is not None and self._count_of(user_id) >= MOST_OF_ONE_USER:
            socket.close(TOO_MANY, f"you listen at {MOST_OF_ONE_USER} sockets already")
        self._sockets[socket] = None
        self._hear()  # which it did, unless the last one left between this one's handshake and now
        self._metrics.hold(len(self._sockets))

    def leave(self, socket: Socket, code: int) -> None:
        del self._sockets[socket]
        self._metrics.hold(len(self._sockets))
        self._metrics.end(code)

    def _count_of(self, user_id: int) -> int:
        return sum(socket.who.user_id == user_id and socket.is_open for socket in self._sockets)

    # What is told

    def _on_begin(self) -> None:
        """What was told until now was not heard: those who listened already must know."""
        if self._sockets:
            self._miss()

    def _on_notice(self, notice: Notice) -> None:
        rule = self._auth.events.get(notice.name, NO_RULE)
        for what in notice.whats:
            self._put(rule, notice.owner, {"name": notice.name, "when": notice.when, "what": what})

    def _put(self, rule: Rule, owner: str | None, event: dict[str, Any]) -> None:
        frame = text_frame(msgspec.json.encode(event))
        if self._waiting_bytes + len(frame) > MOST_WAITING_BYTES:
            self._has_missed = True  # all are told so, behind what waits
        else:
            self._waiting.append(_Told(rule, owner, frame))
            self._waiting_bytes += len(frame)
        if self._handing is None:
            self._handing = self._started(self._hand_out())

    def _miss(self) -> None:
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._put(FOR_ALL, None, {"name": MISSED, "when": when, "what": {}})

    async def _hand_out(self) -> None:
        """Batch by batch, until nothing waits."""
        try:
            while self._waiting:
                await asyncio.sleep(GATHERING_SECONDS)
                batch, sent = self._take_batch(), 0
                roles = {role for told in batch for role in ROLES if getattr(told.rule, role) == "own"}
                for_whom: dict[tuple[str, str | None], tuple[bytes, int]] = {}
                for place, socket in enumerate(list(self._sockets)):
                    if place % MOST_AT_A_TIME == MOST_AT_A_TIME - 1:
                        await asyncio.sleep(0)
                    who = socket.who
                    kind = (who.role, who.by if who.role in roles else None)
                    if kind not in for_whom:
                        frames = [told.frame for told in batch if told.is_for(who)]
                        for_whom[kind] = b"".join(frames), len(frames)
                    frames_together, count = for_whom[kind]
                    if count:
                        socket.give(frames_together, count)
                        sent += count
                self._metrics.send(sent)
                if self._has_missed:
                    self._has_missed = False
                    self._miss()
        finally:
            self._handing = None

    def _take_batch(self) -> list[_Told]:
        """As much as is small beside what a socket may have unsent."""
        size = count = 0
        for told in self._waiting:
            size += len(told.frame)
            if count and size > MOST_BATCH_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= sum(len(told.frame) for told in batch)
        return batch

    # Who may still listen

    async def _rounds(self) -> None:
        """Let go of those whose tokens are dead, and of those who are gone; and of hearing, when nobody is left."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if not self._sockets and not self._asking:
                self._end_hearing()
                return
            for socket in list(self._sockets):
                socket.look()
            if self._auth.is_required:
                await self._confirm()

    async def _confirm(self) -> None:
        """Look up the tokens that were not for a while; whose cannot be, may not listen for long either."""
        now = perf_counter()
        due = [socket for socket in self._sockets if now - socket.confirmed > CONFIRMED_SECONDS]
        found = await asyncio.gather(*(self._look_up(socket.token) for socket in due))
        for socket, who in zip(due, found, strict=True):
            if who == socket.who:
                socket.confirmed = perf_counter()
            elif who is not UNKNOWN:
                socket.close(TOKEN_DEAD, "this token is known no longer")
            elif perf_counter() - socket.confirmed > UNCONFIRMED_SECONDS:
                socket.close(TRY_LATER, "whether your token is right cannot be found out just now")

    async def _look_up(self, token: str) -> Any:
        try:
            return await asyncio.wait_for(self._auth.tokens.look_up(token), LOOK_UP_SECONDS)
        except (problems.Unavailable, TimeoutError):
            return UNKNOWN

    # How this runs

    def _hear(self) -> Ear:
        if self._ear is None:
            self._ear = listen(self._db, self._on_notice, self._on_begin)
            self._watching = self._started(self._rounds())
        return self._ear

    def _end_hearing(self) -> None:
        if self._ear is not None:
            self._ear.end()
            self._ear = None
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(self._watched(work), context=Context())

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever goes wrong, nobody goes on listening in vain, or unasked."""
        try:
            await work
        except Exception as accident:
            log.write_line({"event": "audience_died", "sockets": len(self._sockets)}, logging.ERROR, accident)
            for socket in list(self._sockets):
                socket.close(OUR_FAULT, "something went wrong on our side")
            self._end_hearing()
