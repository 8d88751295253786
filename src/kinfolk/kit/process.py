"""Running roles: sockets first, then as many processes as asked, watched, restarted, ended gracefully.

One parent forks and watches; it runs no event loop and no thread, so that a fork is safe. Its children ignore SIGINT
(a terminal sends it to everybody) and end on the parent's SIGTERM, or when the parent is gone.
"""

import ctypes
import gc
import logging
import os
import selectors
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import NoReturn

import setproctitle

from kinfolk.kit import log, metrics, systemd, telemetry
from kinfolk.kit.ending import FAILED, INTERRUPTED, NOT_THERE, OK, WRONG_USAGE, Ended
from kinfolk.kit.settings import LogSettings

LONGEST_PAUSE_SECONDS = 10.0
SETTLED_SECONDS = 10.0
MOST_FAILURES_AT_START = 3
KILL_MARGIN_SECONDS = 2.0
SAME_WISH_SECONDS = 0.3  # timeout(1) and terminals tell the process and its group, which is one wish told twice
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A process to be: `run` blocks until it is told to end, and calls what it is given once it serves."""

    title: str
    run: Callable[[Callable[[], None]], None]
    call: socket.socket | None = None
    """For one that works for the others: it is started when this can be read, and ends when it has no more to do."""
    pid: int = 0
    is_ready: bool = False
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    pipe: int = field(default=-1, repr=False)


class Supervisor:
    """Starts children, watches them, starts again those that die, and ends them all, who work for others last."""

    def __init__(self, title: str, children: Sequence[Child], logs: LogSettings, grace_seconds: float) -> None:
        self._title = title
        self._children = children
        self._servers = [child for child in children if child.call is None]
        self._logs = logs
        self._grace_seconds = grace_seconds
        self._selector = selectors.DefaultSelector()
        self._told_at: float | None = None
        self._is_hurried = False
        self._is_announced = False
        self._ending_at: float | None = None
        self._is_killing = False
        self._pulse_seconds = systemd.pulse_seconds()

    def run(
        self, on_ready: Callable[[], None], on_ending: Callable[[], object], mend: Callable[[], None] = lambda: None
    ) -> int:
        """Returns the exit code.

        `on_ready` is called once, when every child has begun to serve, `on_ending` before the children are told to end.
        `mend` is called whenever any child of this process may have died, for it to look after those that are not ours;
        when it raises Ended, all end.
        """
        setproctitle.setproctitle(f"kinfolk {self._title}")  # the command line may hold a password, for all to see
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        before = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _noticed) for number in _WATCHED}
        self._selector.register(wake_read, selectors.EVENT_READ)
        _settle_memory()
        try:
            for child in self._children:
                self._begin(child)
            return self._watch(wake_read, on_ready, on_ending, mend)
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)

    def _watch(
        self,
        wake_read: int,
        on_ready: Callable[[], None],
        on_ending: Callable[[], object],
        mend: Callable[[], None],
    ) -> int:
        code = OK
        while True:
            self._wait_for_news(wake_read)
            if self._pulse_seconds is not None:
                systemd.notify("WATCHDOG=1")
            code = self._bury() or code
            if self._ending_at is None and self._told_at is None:
                code = code or _mended(mend)
            is_ending = self._ending_at is not None or self._told_at is not None or code != OK
            if not self._is_announced and not is_ending and all(child.is_ready for child in self._servers):
                self._is_announced = True
                on_ready()
                systemd.notify("READY=1")
            if self._ending_at is None and is_ending:
                self._ending_at = monotonic() + self._grace_seconds + KILL_MARGIN_SECONDS
                systemd.notify("STOPPING=1")
                on_ending()
                self._signal(signal.SIGTERM, self._servers)
            if self._ending_at is None:
                self._start_due()
                continue
            code = INTERRUPTED if self._is_hurried else code
            if not any(child.pid for child in self._servers):
                self._signal(signal.SIGKILL, self._children)  # they work for nobody
                return code
            if not self._is_killing and (self._is_hurried or monotonic() >= self._ending_at):
                self._kill_all()

    def _start_due(self) -> None:
        for child in self._children:
            if not child.pid and child.due <= monotonic():
                self._begin(child)

    def _begin(self, child: Child) -> None:
        """Start it, or have it wait for a call."""
        if child.call is None:
            self._start(child)
        else:
            child.due = inf
            self._selector.register(child.call, selectors.EVENT_READ, child)

    def _wait_for_news(self, wake_read: int) -> None:
        """Sleep until a signal, a child's word, or the next moment that something is due."""
        if self._ending_at is not None:
            moments = [] if self._is_killing else [self._ending_at]
        else:
            moments = [child.due for child in self._children if not child.pid and child.due < inf]
        if self._pulse_seconds is not None:
            moments.append(monotonic() + self._pulse_seconds)
        patience = max(0.0, min(moments) - monotonic()) if moments else None
        for key, _ in self._selector.select(patience):
            if key.fd == wake_read:
                if any(number in _ENDING for number in os.read(wake_read, 4_096)):
                    self._be_told()
            elif key.fileobj is key.data.call:
                self._selector.unregister(key.fileobj)
                self._start(key.data)
            else:
                self._hear(key.data)

    def _be_told(self) -> None:
        now = monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at > SAME_WISH_SECONDS:
            self._is_hurried = True

    def _start(self, child: Child) -> None:
        read, write = os.pipe()
        parent = os.getpid()
        # A signal between fork and the child's own handlers would be lost to it, and counted by us as one more.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        pid = os.fork()
        if pid == 0:
            os.close(read)
            self._be(child, write, parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.close(write)
        child.pid, child.pipe, child.started, child.is_ready = pid, read, monotonic(), False
        self._selector.register(read, selectors.EVENT_READ, child)

    def _be(self, child: Child, write: int, parent: int) -> NoReturn:
        """The life of a child; never returns."""
        code = FAILED
        lines = None
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            die_with_parent(parent)
            for sibling in self._children:
                if sibling.pipe >= 0:
                    os.close(sibling.pipe)
                if sibling.call is not None and sibling is not child:
                    sibling.call.close()  # so that a call is refused once nobody can take it
            self._selector.close()
            setproctitle.setproctitle(f"kinfolk {child.title}")
            lines = log.start(self._logs)
            telemetry.start(child.title)
            child.run(lambda: _say_ready(write))
            code = OK
        except Ended as end:
            code = end.exit_code
            log.write_line({"event": "cannot_start", "role": child.title, "reason": str(end)}, logging.ERROR)
        except BaseException as error:  # the last place where it can be told
            log.write_line({"event": "died", "role": child.title}, logging.ERROR, error)
        finally:
            telemetry.stop()
            if lines is not None:
                lines.stop()
            os._exit(code)

    def _hear(self, child: Child) -> None:
        child.is_ready = bool(os.read(child.pipe, 1))
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        child.pipe = -1

    def _bury(self) -> int:
        """Take note of the dead; returns an exit code if the whole must end because of one."""
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            if child.pipe >= 0:  # pragma: no cover  # it ended after the news were read, within microseconds
                self._hear(child)
            was_ready, child.pid, child.is_ready = child.is_ready, 0, False
            metrics.forget_process(pid)
            code = os.waitstatus_to_exitcode(status)
            if child.call is not None and (code == OK or self._ending_at is not None):
                self._begin(child)
                continue
            if self._ending_at is not None:
                continue
            line = {"event": "process_died", "role": child.title, "pid": pid, "code": code}
            if not self._is_announced and not was_ready and child.call is None:
                if code in (WRONG_USAGE, NOT_THERE):
                    return code
                if child.failures >= MOST_FAILURES_AT_START:
                    log.write_line(line | {"event": "gave_up"}, logging.ERROR)
                    return FAILED
            child.failures = 0 if monotonic() - child.started > SETTLED_SECONDS else child.failures + 1
            pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2**child.failures) if child.failures else 0.0
            child.due = monotonic() + pause
            log.write_line(line | {"restart_seconds": pause}, logging.WARNING)
        return OK

    def _kill_all(self) -> None:
        self._is_killing = True
        left = [child.title for child in self._children if child.pid]
        log.write_line({"event": "killed", "roles": ", ".join(left)}, logging.WARNING)
        self._signal(signal.SIGKILL, self._children)

    def _signal(self, number: int, children: Sequence[Child]) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, number)  # not buried yet, so the number is still its own


def _settle_memory() -> None:
    """What is loaded now stays, and is shared by all children: give back the rest, and let no collection touch it."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # with the first one OpenSSL fills 3 MB, as each child's would to connect
    gc.collect()
    if sys.platform == "linux":  # pragma: no branch  # elsewhere nobody can ask for it
        with suppress(AttributeError):  # the C library is not GNU's
            ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()


_ENDING = (signal.SIGTERM, signal.SIGINT)
_WATCHED = (*_ENDING, signal.SIGCHLD)


def _mended(mend: Callable[[], None]) -> int:
    """The exit code where it cannot be mended."""
    try:
        mend()
    except Ended as end:
        log.write_line({"event": "cannot_mend", "reason": str(end)}, logging.ERROR)
        return end.exit_code
    return OK


def _noticed(_number: int, _frame: object) -> None:
    """The number arrives through the wake-up pipe."""


def _say_ready(write: int) -> None:
    os.write(write, b"1")
    os.close(write)


def die_with_parent(parent: int) -> None:
    """End with SIGTERM when the parent is gone, even by kill -9 (Linux: prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":  # pragma: no branch  # elsewhere a killed parent leaves its children
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # pragma: no cover  # it was killed within microseconds of the fork
            os._exit(FAILED)
