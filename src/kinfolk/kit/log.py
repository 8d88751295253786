"""One line for each piece of work, written by a thread of its own so that the event loop never waits for a disk.

`note(citizens=10)` adds a fact to the line of the work under way; `spent` counts its time in the database.
"""

import logging
import logging.config
import os
import select
import stat
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import sleep, time
from typing import Any, NamedTuple, TypeAlias

import yaml

from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.lines import LEVELS, STDERR, Line, Lines, through_logging
from kinfolk.kit.settings import LogSettings

STROKE_BYTES = 65_536
MOST_WAITING = 20_000  # 30 MB or so
PAUSE_SECONDS = 0.02
STOP_SECONDS = 5

_facts: ContextVar[dict[str, Any]] = ContextVar("facts")


def note(**facts: Any) -> None:
    """Add facts to the line of the work under way. No personal data: ids and counts, never names."""
    current = _facts.get(None)
    if current is not None:
        current.update(facts)


def spent(seconds: float) -> None:
    """Count time in the database towards the work under way."""
    current = _facts.get(None)
    if current is not None:
        current["db_ms"] = current.get("db_ms", 0.0) + seconds * 1_000


def request_id() -> str | None:
    """The id of the request that the work under way goes back to; it goes on into whatever it sets off."""
    return origin().request_id


class Origin(NamedTuple):
    """What a piece of work goes back to; it travels into the jobs that it owes, and the process beside."""

    request_id: str | None = None
    by: str | None = None
    """Who did it: `user:7`, `message:imports.main`, `tick:students.touch`, `command`; None where nobody is asked."""
    address: str | None = None
    """Where a request came from; known where people are asked who they are, and for the audit log alone."""

    def facts(self) -> dict[str, str]:
        """What is noted of it in a piece of work."""
        known = {"id": self.request_id, "by": self.by, "address": self.address}
        return {name: fact for name, fact in known.items() if fact is not None}


def origin() -> Origin:
    """What the work under way goes back to."""
    current = _facts.get(None)
    return _UNKNOWN if current is None else Origin(current.get("id"), current.get("by"), current.get("address"))


_UNKNOWN = Origin()


class facts:  # noqa: N801  # a context manager, at a fifth of the cost of a generator's
    """Begin a piece of work: what is noted inside lands in the dictionary given, beside the id that it goes by."""

    __slots__ = ("_by", "_id", "_token")

    def __init__(self, request_id: str | None = None, by: str | None = None) -> None:
        """`by` as Origin has it; a request notes it once it is known."""
        self._id = request_id
        self._by = by

    def __enter__(self) -> dict[str, Any]:
        current: dict[str, Any] = {} if self._id is None else {"id": self._id}
        if self._by is not None:
            current["by"] = self._by
        self._token = _facts.set(current)
        return current

    def __exit__(self, *_error: object) -> None:
        _facts.reset(self._token)


_Work: TypeAlias = tuple[float, str, dict[str, Any]]  # when it was done, its level, what is told of it


class Log:
    """Where this process writes; `stop` writes what still waits."""

    def __init__(self, handlers: list[logging.Handler], most_waiting: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._handlers = handlers
        self._most_waiting = most_waiting
        self._stream = handlers[0] if len(handlers) == 1 and type(handlers[0]) is _Stream else None
        self._waiting: SimpleQueue[logging.LogRecord | bytes | _Work | None] = SimpleQueue()
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, record: logging.LogRecord) -> None:
        """Owe a record; beyond a bound it is dropped and counted, for memory must not grow with a blocked pipe."""
        if self._waiting.qsize() >= self._most_waiting:
            self.dropped += 1
        else:
            # Rendered at once: what it speaks of may change.
            self._waiting.put(record if self._stream is None else self._stream.line(record))

    def put_line(self, level: str, event: dict[str, Any]) -> bool:
        """Owe the line of a piece of work without the detour of a record; False where only a record will do."""
        if self._stream is None or self._waiting.qsize() >= self._most_waiting:
            return False
        self._waiting.put((time(), level, event))
        return True

    def stop(self) -> None:
        """Gives up on a reader who does not read within seconds."""
        self._waiting.put(None)
        self._thread.join(STOP_SECONDS)

    def _write(self) -> None:
        told = 0
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            sleep(PAUSE_SECONDS)  # a burst is then written in one go: a wake-up for each line costs more than the line
            batch += [self._waiting.get() for _ in range(self._waiting.qsize())]
            for owed in batch:
                if isinstance(owed, tuple):
                    self._stream.add(self._stream.line_of(*owed))  # type: ignore[union-attr]  # else none is put
                elif isinstance(owed, bytes):
                    self._stream.add(owed)  # type: ignore[union-attr]  # it made the line
                elif owed is None:
                    is_open = False
                else:
                    self._handle(owed)
            dropped = self.dropped
            if dropped > told:
                self._handle(Line(logging.WARNING, {"event": "log_lines_dropped", "lines": dropped - told}))
                told = dropped
            for handler in self._handlers:
                handler.flush()

    def _handle(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class _Owed(logging.Handler):
    """Hands every record to the thread that writes."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def handle(self, record: logging.LogRecord) -> bool:
        self.log.put(record)
        return True


class _Stream(logging.Handler):
    """Writes whole lines, as many at a time as are taken at one stroke, so that processes do not mix theirs up."""

    def __init__(self) -> None:
        super().__init__()
        self._most_bytes = STROKE_BYTES if _is_file(STDERR) else select.PIPE_BUF
        self._lines: list[bytes] = []
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self.line(record))

    def line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as error:  # what a library logs wrongly must end neither the work nor the writing thread
            wrong = {"event": "unreadable_log_record", "logger": record.name, "reason": repr(error)}
            text = self.format(Line(logging.ERROR, wrong))
        return f"{text}\n".encode("utf-8", "backslashreplace")

    def line_of(self, created: float, level: str, event: dict[str, Any]) -> bytes:
        assert isinstance(self.formatter, Lines), "start gives a stream no other"
        return f"{self.formatter.rendered(created, level, event)}\n".encode("utf-8", "backslashreplace")

    def add(self, line: bytes) -> None:
        if self._size + len(line) > self._most_bytes:
            self.flush()
        self._lines.append(line)
        self._size += len(line)

    def flush(self) -> None:
        piece = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        with suppress(OSError):  # the reader of the log went away, which must not end the work
            while piece:
                piece = piece[os.write(STDERR, piece) :]


def _is_file(descriptor: int) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    return False


class _Hasty(_Stream):
    """For a process without a thread: writes each line, or drops it where that would have to wait for the reader."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        ready = select.poll()
        ready.register(STDERR, select.POLLOUT)
        if ready.poll(0):
            self.flush()
        self._lines.clear()
        self._size = 0


def start(settings: LogSettings, *, in_thread: bool = True) -> Log | None:
    """Set up logging for this process, after any fork: the writing thread does not survive one.

    A process that forks writes without a thread and gets None. Raises WrongSetting.
    """
    logging.raiseExceptions = False
    if settings.log_config is not None:
        handlers = _configured(settings.log_config)
    else:
        handler = _Stream() if in_thread else _Hasty()
        handler.setFormatter(Lines(settings.log_format))
        handlers = [handler]
        logging.getLogger().setLevel(settings.log_level.upper())
        for talkative in ("uvicorn", "httpx", "alembic"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
    log = Log(handlers) if in_thread else None
    logging.getLogger().handlers = handlers if log is None else [_Owed(log)]
    through_logging()
    return log


def _configured(path: Path) -> list[logging.Handler]:
    """The root handlers of a dictConfig file; those of named loggers stay where the file puts them."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        logging.config.dictConfig({"disable_existing_loggers": False} | written)
    except (OSError, ValueError, TypeError, AttributeError, ImportError, yaml.YAMLError) as error:
        reason = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise WrongSetting(f"--log-config {path}: {reason}") from error
    return list(logging.getLogger().handlers)


def write_line(event: dict[str, Any], level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Write the one line of a piece of work, at a quarter of the cost of a bound logger."""
    root = logging.root
    if not root.isEnabledFor(level):
        return
    owed = root.handlers[0] if len(root.handlers) == 1 else None
    if error is not None or type(owed) is not _Owed or not owed.log.put_line(LEVELS[level], event):
        root.handle(Line(level, event, error))
