"""The process that serves: what it asks of the system."""

import asyncio
import resource

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from kinfolk.kit.http.answers import Answer
from kinfolk.kit.http.protocol import Protocol
from kinfolk.kit.http.server import MOST_FILES, _allow_files


def test_a_process_may_open_as_many_files_as_the_system_lets_it() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, hard))
        for _ in range(2):
            _allow_files()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"])
async def test_who_falls_silent_before_a_head_is_whole_is_hung_up_on(said: bytes) -> None:
    config = Config(Answer(b"{}"), http=Protocol, log_config=None, lifespan="off", timeout_keep_alive=0.2)  # type: ignore[arg-type]  # whole seconds, it says
    config.load()
    made = lambda: Protocol(config, ServerState(), {})  # noqa: E731  # a factory
    async with await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(said)
        answered = await reader.read()  # until the server hangs up
        writer.close()
    assert answered.count(b"200 OK") == said.count(b"\r\n\r\n")
