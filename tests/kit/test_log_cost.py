"""What keeps the log cheap: lines rendered by the thread that writes, records without logging's own work."""

import logging
import subprocess
import sys

from kinfolk.kit.lines import Line

PROGRAM = """
import logging
from kinfolk.kit import log
from kinfolk.kit.settings import LogSettings

lines = log.start(LogSettings(log_level="info", log_format="logfmt"))
logging.getLogger("library").info("%d of %d", 1)
log.write_line({"event": "after", "name": "Анна", "path": "/a b"})
lines.stop()
"""


def test_a_record_that_cannot_be_rendered_is_told_and_ends_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    wrong, after = ended.stderr.splitlines()
    assert " level=error event=unreadable_log_record logger=library reason=" in wrong
    assert after.endswith(' level=info event=after name=Анна path="/a b"')


def test_a_line_has_all_that_a_formatter_may_ask_for() -> None:
    ours = Line(logging.WARNING, {"event": "died", "pid": 7}, ValueError("no"))
    plain = logging.LogRecord("kinfolk", logging.WARNING, "", 0, "died", None, None)
    assert ours.__dict__.keys() == plain.__dict__.keys() | {"event"}
    for name in ("name", "levelno", "levelname", "process", "thread", "args", "exc_text", "stack_info", "module"):
        assert getattr(ours, name) == getattr(plain, name), name
    assert abs(ours.created - plain.created) < 60
    assert 0 <= ours.msecs < 1_000
    assert ours.exc_info
    assert ours.exc_info[0] is ValueError
    assert logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s").format(ours)
