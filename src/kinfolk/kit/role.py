"""How a process runs that answers no HTTP: an event loop, the database, and an end within the time of grace."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import uvloop

from kinfolk.kit import metrics, outside
from kinfolk.kit.db import Database
from kinfolk.kit.ending import Missing
from kinfolk.kit.settings import MetricsSettings

PATIENCE_SECONDS = 5.0

Run = Callable[[Callable[[], None]], None]
Main = Callable[[Callable[[], None], asyncio.Event], Awaitable[None]]
"""The work of a role: calls the first once it works, and returns soon after the event is set."""


def role(db: Database, main: Main, grace_seconds: float, watched: socket.socket | None = None) -> Run:
    """What a child process runs: `main`, with the database open, until SIGTERM sets its event.

    What has not returned `grace_seconds` later is cancelled. Whoever asks at `watched` is told the metrics.
    """

    async def until_told(on_ready: Callable[[], None]) -> None:
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        async with db, outside.connections(), asyncio.timeout(None) as grace:
            told = asyncio.ensure_future(_bound(ending, grace, grace_seconds))
            try:
                await main(on_ready, ending)
            finally:
                told.cancel()

    def run(on_ready: Callable[[], None]) -> None:
        if watched is not None:
            Thread(target=_tell_metrics, args=[watched], name="metrics", daemon=True).start()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_told(on_ready))

    return run


async def _bound(ending: asyncio.Event, grace: asyncio.Timeout, grace_seconds: float) -> None:
    await ending.wait()
    grace.reschedule(asyncio.get_running_loop().time() + grace_seconds)


@contextmanager
def watched_at(settings: MetricsSettings) -> Iterator[socket.socket | None]:
    """Bind where the metrics are told, before root is dropped. Raises Missing."""
    if settings.metrics_port is None:
        yield None
        return
    place = (settings.metrics_address, settings.metrics_port)
    try:
        bound = socket.create_server(place, family=socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    except OSError as error:
        raise Missing(f"cannot tell metrics at {place[0]} port {place[1]}: {error.strerror}") from error
    with bound:
        yield bound


def _tell_metrics(bound: socket.socket) -> None:
    """Answer `GET /metrics` for ever, in threads."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def do_GET(self) -> None:  # http.server's name
            if self.path != "/metrics":
                self.send_error(404)
                return
            body, media_type = metrics.exposition()
            self.send_response(200)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """A probe is worth no line."""

    server = ThreadingHTTPServer(bound.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = bound
    server.serve_forever()
