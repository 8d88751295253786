"""One line for each piece of work, written by a thread of its own so that the event loop never waits for a disk.

`note(citizens=10)` adds a fact to the line of the work under way; `spent` counts its time in the database.
"""

import logging
import logging.config
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Any, TextIO

import msgspec
import structlog
import yaml

from kinfolk.kit.settings import LogSettings, WrongSetting

MOST_WAITING = 100_000
PAUSE_SECONDS = 0.02

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


@contextmanager
def facts() -> Iterator[dict[str, Any]]:
    """Begin a piece of work: what is noted inside lands in the dictionary given."""
    current: dict[str, Any] = {}
    token = _facts.set(current)
    try:
        yield current
    finally:
        _facts.reset(token)


class Log:
    """Where this process writes; `stop` writes what still waits."""

    def __init__(self, handlers: list[logging.Handler]) -> None:
        self.dropped = 0
        self._handlers = handlers
        self._waiting: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, record: logging.LogRecord) -> None:
        """Owe a record; beyond a bound it is dropped and counted, for memory must not grow with a blocked pipe."""
        if self._waiting.qsize() >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.put(record)

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join(timeout=5)

    def _write(self) -> None:
        while True:
            record = self._waiting.get()
            sleep(PAUSE_SECONDS)  # a burst is then written in one go: a wake-up for each line costs more than the line
            while record is not None:
                for handler in self._handlers:
                    handler.handle(record)
                if self._waiting.empty():
                    break
                record = self._waiting.get()
            dropped, self.dropped = self.dropped, 0
            for handler in self._handlers:
                if dropped:
                    lost = {"level": "warning", "event": "log_lines_dropped", "lines": dropped}
                    handler.handle(_Line(logging.WARNING, lost))
                handler.flush()
            if record is None:
                return


class _Owed(logging.Handler):
    """Hands every record to the thread that writes."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def handle(self, record: logging.LogRecord) -> bool:
        self._log.put(record)
        return True


class _Unflushed(logging.StreamHandler[TextIO]):
    """A stream that is flushed once a batch, not once a line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + "\n")
        except Exception:  # the reader of the log went away, which must not end the work
            self.handleError(record)

    def flush(self) -> None:
        with suppress(OSError, ValueError):  # the reader of the log went away
            super().flush()


def start(settings: LogSettings, *, in_thread: bool = True) -> Log | None:
    """Set up logging for this process, after any fork: the writing thread does not survive one.

    A process that forks writes without a thread and gets None.
    """
    logging.raiseExceptions = False
    if settings.log_config is not None:
        handlers = _configured(settings.log_config)
    else:
        handler = _Unflushed(sys.stderr)
        handler.setFormatter(Lines(settings.log_format))
        handlers = [handler]
        logging.getLogger().setLevel(settings.log_level.upper())
        for talkative in ("uvicorn", "httpx", "alembic"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
    log = Log(handlers) if in_thread else None
    logging.getLogger().handlers = handlers if log is None else [_Owed(log)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return log


def _configured(path: Path) -> list[logging.Handler]:
    """The root handlers of a dictConfig file; those of named loggers stay where the file puts them."""
    try:
        logging.config.dictConfig(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, ImportError, yaml.YAMLError) as error:
        raise WrongSetting(f"--log-config {path}: {error}") from error
    return list(logging.getLogger().handlers)


class Lines(structlog.stdlib.ProcessorFormatter):
    """Renders lines as logfmt, JSON or colour; the line of a piece of work takes the short way."""

    def __init__(self, form: str | None = None) -> None:
        """`form` None: colour on a terminal, else logfmt."""
        form = form or ("color" if sys.stderr.isatty() else "logfmt")
        self._render = {"logfmt": logfmt, "json": _json, "color": _coloured()}[form]
        super().__init__(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
            processors=[_timed, lambda _logger, _method, event: self._render(dict(event))],
            pass_foreign_args=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        if type(record) is not _Line:
            return super().format(record)
        event: dict[str, Any] = {"timestamp": _moment(record), **record.event}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return self._render(event)


class _Line(logging.LogRecord):
    """The record of a piece of work: no caller to look for, nothing to interpolate."""

    def __init__(self, level: int, event: dict[str, Any], error: BaseException | None = None) -> None:
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        super().__init__("kinfolk", level, "", 0, event["event"], None, exc_info)
        self.event = event


def write_line(event: dict[str, Any], level: int = logging.INFO, error: BaseException | None = None) -> None:
    """Write the one line of a piece of work, at a quarter of the cost of a bound logger."""
    root = logging.getLogger()
    if root.isEnabledFor(level):
        root.handle(_Line(level, {"level": _LEVELS[level], **event}, error))


_LEVELS = {number: logging.getLevelName(number).lower() for number in (10, 20, 30, 40)}
_PLAIN = re.compile(r'[^\s"=\\]+')


def logfmt(event: dict[str, Any]) -> str:
    """`key=value` pairs; values with blanks, quotes or line ends are quoted as JSON strings are."""
    pairs = []
    for key, value in event.items():
        if type(value) is str:
            text = value if _PLAIN.fullmatch(value) else _json(value)
        elif type(value) is float:
            text = f"{value:.2f}"
        elif value is None:
            continue
        elif value is True or value is False:
            text = "true" if value else "false"
        else:
            text = str(value)
            if not _PLAIN.fullmatch(text):
                text = _json(text)
        pairs.append(f"{key}={text}")
    return " ".join(pairs)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=repr).decode()


def _coloured() -> Callable[[dict[str, Any]], str]:
    console = structlog.dev.ConsoleRenderer(colors=True)
    return lambda event: str(console(None, "", event))


def _timed(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The moment of the event, not of the writing, and the level come first."""
    record = event.pop("_record")
    event.pop("_from_structlog", None)
    return {"timestamp": _moment(record), "level": event.pop("level"), "event": event.pop("event"), **event}


def _moment(record: logging.LogRecord) -> str:
    """When it happened: UTC, ISO 8601, milliseconds."""
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")
