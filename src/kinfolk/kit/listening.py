"""What the API listens on: handed over by systemd, or bound here, while we may still be root."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinfolk.kit import systemd
from kinfolk.kit.ending import Missing, WrongSetting
from kinfolk.kit.settings import WebSettings, is_loopback

BACKLOG = 2_048  # as uvicorn, which listens once more


@contextmanager
def listening(settings: WebSettings) -> Iterator[socket.socket]:
    """What the API listens on: what systemd hands over, or bound here, before root is dropped.

    Raises WrongSetting and Missing.
    """
    handed_over = systemd.handed_over()
    if handed_over is not None:
        with handed_over:
            _refuse_unsaid(settings, handed_over)
            yield handed_over
        return
    if settings.uds is None:
        with _listen_at_port(settings) as bound:
            yield bound
        return
    with _listen_at_path(settings.uds) as bound:
        try:
            yield bound
        finally:
            with suppress(OSError):  # the folder may be closed to whom --user named; the next start removes it
                settings.uds.unlink()


def _refuse_unsaid(settings: WebSettings, handed_over: socket.socket) -> None:
    """The settings do not know where systemd listens; so beyond loopback they must say whether everybody is asked."""
    if settings.auth is None and not is_here_only(handed_over):
        raise WrongSetting("systemd listens where others can ask, too: say --auth required, or --auth off")
    if handed_over.family != socket.AF_UNIX:
        _refuse_strangers(settings, handed_over.getsockname()[0])


def is_here_only(bound: socket.socket) -> bool:
    """Whether nobody but this machine can ask there: behind a unix socket may be a proxy, and behind that anybody."""
    return bound.family != socket.AF_UNIX and is_loopback(bound.getsockname()[0])


def _listen_at_port(settings: WebSettings) -> socket.socket:
    _refuse_strangers(settings, settings.api_address)
    bound = socket.socket(socket.AF_INET6 if ":" in settings.api_address else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.api_address, settings.api_port))
        bound.listen(BACKLOG)  # with SO_REUSEADDR two may bind, and only one listen
    except OSError as error:
        bound.close()
        raise Missing(
            f"cannot listen on {settings.api_address} port {settings.api_port}: {error.strerror}; "
            "--api-port takes another one (0: any free one)"
        ) from error
    return bound


def _refuse_strangers(settings: WebSettings, address: str) -> None:
    if not (settings.asks_who or settings.insecure or is_loopback(address)):
        raise WrongSetting(
            f"--api-address {address} can be reached from other machines and with --auth off nobody would be asked "
            "who they are; say --auth required, or --insecure"
        )


def _listen_at_path(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            if not _is_left_behind(path):
                raise Missing(f"cannot listen on --uds {path}: another process listens there")
            path.unlink()
        bound.bind(str(path))
        path.chmod(0o666)  # who may reach it is the folder's business, as with other servers
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise Missing(f"cannot listen on --uds {path}: {error.strerror or error}") from error
    except Missing:
        bound.close()
        raise
    return bound


def _is_left_behind(path: Path) -> bool:
    """Whether the process that made this socket was killed."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def place_of(bound: socket.socket) -> str:
    """Where that is, in the words of a role's line."""
    if bound.family == socket.AF_UNIX:
        return f"uds={bound.getsockname()}"
    return "address={} port={}".format(*bound.getsockname()[:2])
