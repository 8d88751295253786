"""One process that serves the application over HTTP (uvicorn, on sockets that are bound already)."""

import asyncio
import concurrent.futures.thread  # noqa: F401  # asyncio.to_thread would load it late, see `server`
import contextlib
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import prometheus_client.multiprocess  # noqa: F401  # /metrics would load it late, see `server`
import uvicorn
from litestar.types import ASGIApp

from kinfolk.kit import outside
from kinfolk.kit.auth import Tokens
from kinfolk.kit.cache import Cache
from kinfolk.kit.chain import sealing
from kinfolk.kit.db import Database
from kinfolk.kit.forgetting import forgetting
from kinfolk.kit.http.protocol import Protocol
from kinfolk.kit.metrics import http_metrics

KEEP_ALIVE_SECONDS = 20
MOST_FILES = 65_536

Run = Callable[[Callable[[], None]], None]


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals; says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def server(
    app: ASGIApp,
    db: Database,
    bound: socket.socket,
    grace_seconds: float,
    cache: Cache,
    *,
    tokens: Tokens | None = None,
    is_audited: bool = False,
) -> Run:
    """What a child process runs: answers requests until SIGTERM, then finishes those under way within `grace_seconds`.

    Where `is_audited`, it also sees to the chain of the audit log.

    Everything is loaded here, in the parent: its children begin sooner, share the memory, and may be users who cannot
    read where Python lies.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
    )
    config.load()
    loop_factory = config.get_loop_factory()

    def run(on_ready: Callable[[], None]) -> None:
        _allow_files()
        server = _Server(config, on_ready)

        async def until_told() -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, server, "should_exit", True)
            noted = sealing(db) if is_audited else contextlib.nullcontext()
            kept = tokens or contextlib.nullcontext()
            async with db, cache, forgetting(db, cache), kept, noted, outside.connections():
                await server.serve(sockets=[bound])
            http_metrics().share()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(until_told())

    return run


def _allow_files() -> None:
    """A connection is an open file, and the usual limit of 1,024 is there for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
