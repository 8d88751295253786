"""How a line of the log is written: logfmt, JSON, in colour, or for systemd's journal."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any

import msgspec

from kinfolk.kit.systemd import PRIORITIES, is_journal

# structlog would load rich, 3 to 5 MB in every process, for tracebacks that are rendered otherwise here.
_loaded = {name: module for name, module in sys.modules.items() if name == "rich"}
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

del sys.modules["rich"]
sys.modules.update(_loaded)

STDERR = 2
LEVELS = {number: logging.getLevelName(number).lower() for number in (10, 20, 30, 40)}

_PLAIN = re.compile(r'[^\s"=\\\x00-\x1f\x7f-\x9f]+')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what could move the cursor of whoever reads the log


class Lines(structlog.stdlib.ProcessorFormatter):
    """Renders lines as logfmt, JSON or colour; the line of a piece of work takes the short way."""

    def __init__(self, form: str | None = None) -> None:
        """`form` None: colour on a terminal, else logfmt, in systemd's journal without what that keeps itself."""
        form = form or ("color" if sys.stderr.isatty() else "journal" if is_journal(STDERR) else "logfmt")
        forms = {"logfmt": _timed_logfmt, "journal": _for_journal, "json": _timed_json, "color": _coloured()}
        self._render: Callable[[int, str, dict[str, Any]], str] = forms[form]
        super().__init__(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
            processors=[self._render_any],
            pass_foreign_args=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        if type(record) is not Line:
            return super().format(record)
        event = record.event
        if record.exc_info:
            event = event | {"exception": self.formatException(record.exc_info)}
        return self.rendered(record.created, LEVELS[record.levelno], event)

    def _render_any(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        """The moment is that of the event, not of the writing."""
        created = event.pop("_record").created
        event.pop("_from_structlog", None)
        return self.rendered(created, event.pop("level"), {"event": event.pop("event"), **event})

    def rendered(self, created: float, level: str, event: dict[str, Any]) -> str:
        """A line with its moment; `created` in seconds since 1970."""
        return self._render(int(created * 1_000), level, event)


_ANY_LINE = logging.LogRecord("kinfolk", logging.INFO, "", 0, "", None, None).__dict__ | {"relativeCreated": 0.0}


class Line(logging.LogRecord):
    """The record of a piece of work: no caller to look for, nothing to interpolate."""

    event: dict[str, Any]

    def __init__(self, level: int, event: dict[str, Any], error: BaseException | None = None) -> None:
        now = time()
        self.__dict__ = _ANY_LINE | {  # all that LogRecord sets, without its work, which costs more than the rest
            "msg": event["event"],
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "created": now,
            "msecs": now % 1 * 1_000,
            "process": os.getpid(),
            "exc_info": None if error is None else (type(error), error, error.__traceback__),
            "event": event,
        }

    def getMessage(self) -> str:  # noqa: N802  # logging's name
        """What a formatter of `--log-config` sees: all facts."""
        return logfmt(self.event)


def _timed_logfmt(milliseconds: int, level: str, event: dict[str, Any]) -> str:
    return f"{_beginning(milliseconds, level)} {logfmt(event)}"


@lru_cache(maxsize=64)
def _beginning(milliseconds: int, level: str) -> str:
    """Many lines begin in one millisecond."""
    return f"timestamp={_moment(milliseconds)} level={level}"


def _timed_json(milliseconds: int, level: str, event: dict[str, Any]) -> str:
    return _json({"timestamp": _moment(milliseconds), "level": level, **event})


def _for_journal(_milliseconds: int, level: str, event: dict[str, Any]) -> str:
    """The journal keeps the moment itself, and reads the level in front of a line."""
    return f"<{PRIORITIES.get(level, 6)}>level={level} {logfmt(event)}"


def logfmt(event: dict[str, Any]) -> str:
    """`key=value` pairs; values with blanks, quotes or control characters are quoted as JSON strings are."""
    pairs = []
    for key, value in event.items():
        if type(value) is str:
            text = value if value.isalnum() else _worded(value)
        elif type(value) is int:
            text = str(value)
        elif type(value) is float:
            text = f"{value:.2f}"
        elif value is None:
            continue
        elif value is True or value is False:
            text = "true" if value else "false"
        else:
            text = str(value)
            if not _PLAIN.fullmatch(text):
                text = _quoted(text)
        pairs.append(f"{key}={text}")
    return " ".join(pairs)


@lru_cache(maxsize=4_096)
def _worded(text: str) -> str:
    """Paths, methods and moments come again and again."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return _CONTROL.sub(lambda sign: f"\\u{ord(sign[0]):04x}", _json(text))


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except UnicodeEncodeError:  # half a surrogate pair, which msgspec does not escape
        return json.dumps(value, default=repr)


def _coloured() -> Callable[[int, str, dict[str, Any]], str]:
    console = structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)

    def render(milliseconds: int, level: str, event: dict[str, Any]) -> str:
        exception = event.get("exception")
        shown = {"timestamp": _moment(milliseconds), "level": level, **event}
        facts = {key: _plain(value) for key, value in shown.items() if value is not None}
        if exception is not None:
            facts["exception"] = exception
        return str(console(None, "", facts))

    return render


def _plain(value: Any) -> str:
    return _CONTROL.sub(lambda sign: f"\\x{ord(sign[0]):02x}", f"{value:.2f}" if type(value) is float else str(value))


def _moment(milliseconds: int) -> str:
    """When it happened: UTC, ISO 8601."""
    return f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}Z"


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def through_logging() -> None:
    """Whoever logs through structlog does it through logging, and is rendered as everybody."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
