"""What systemd hands to a process and wants to hear from it: a socket, readiness, signs of life, lines for its journal.

Its own library is not needed: sd_listen_fds(3), sd_notify(3), and JOURNAL_STREAM of systemd.exec(5).
"""

import os
import socket
from contextlib import suppress

from kinfolk.kit.ending import WrongSetting

FIRST_HANDED_OVER = 3
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of lines by their level, as systemd's journal has them (sd-daemon(3))."""


def handed_over() -> socket.socket | None:
    """The socket that systemd listens on for this process, once. Raises WrongSetting when it is not one for HTTP."""
    names = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if names["LISTEN_PID"] != str(os.getpid()):
        return None
    if names["LISTEN_FDS"] != "1":
        raise WrongSetting(f"systemd hands over {names['LISTEN_FDS']} sockets; name one in the .socket unit")
    try:
        bound = socket.socket(fileno=FIRST_HANDED_OVER)
    except OSError as error:
        raise WrongSetting(f"systemd hands over something that is no socket: {error.strerror}") from error
    bound.set_inheritable(False)
    if bound.type is not socket.SOCK_STREAM or not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        bound.close()
        raise WrongSetting("systemd hands over a socket that does not listen: ListenStream= and Accept=no are needed")
    return bound


def notify(state: str) -> None:
    """Tell systemd, such as `READY=1`; where nobody listens, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect("\0" + address[1:] if address.startswith("@") else address)
        line.send(state.encode())


def pulse_seconds() -> float | None:
    """How often `WATCHDOG=1` is due: twice within what the unit's WatchdogSec= allows."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed = os.environ.get("WATCHDOG_USEC", "0")
    return int(allowed) / 2_000_000 if allowed.isdecimal() and int(allowed) else None


def is_journal(descriptor: int) -> bool:
    """Whether what is written there goes straight to the journal."""
    with suppress(OSError):
        status = os.fstat(descriptor)
        return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False
