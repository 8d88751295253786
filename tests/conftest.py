"""Servers and clients for all tests: one PostgreSQL of each kind a run, a database of its own for each worker."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from kinfolk.app import MODULES
from kinfolk.kit.auth import Auth
from kinfolk.kit.db import Database
from kinfolk.kit.embedded_postgres import ALWAYS, EmbeddedPostgres
from kinfolk.kit.http.application import application
from kinfolk.kit.migrate import upgrade
from kinfolk.rules import EVENTS, RULES
from tests.memory_tokens import MemoryTokens
from tests.noting_product import NOTES
from tests.postgres_places import NAMED, SYSTEM
from tests.rabbit_node import VHOSTS, end_rabbit, shared_rabbit
from tests.redis_server import RedisServer
from tests.running import Service

OF_THIS_RUN = "TESTS_POSTGRES"
"""The variable that tells a run of tests, begun by a test, of the servers that are there; as JSON."""
LONGEST = ["test_new_module", "test_bench", "test_messages_faults", "test_commands_in_docs", "test_hostile_input"]
STORIES = {"deploy", "docs", "journeys"}
"""Folders whose tests start processes by the hundred. Coverage of those is not counted, nor of those that a test marked
`uncounted` starts: it takes a third of their time, and other tests reach all that they reach."""
COUNTING = "COVERAGE_PROCESS_CONFIG"
SERVERS = {"embedded": NAMED, "system": SYSTEM}
NAMED_URL = os.environ.get("TEST_PG_URL")
"""A server to test with in place of the embedded one, and a role there that may make databases."""


class Servers:
    """The servers of this run, each with a migrated template; they belong to the process that pytest began as."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kinfolk-tests-"))
        self.folder.chmod(0o755)
        self.pid = os.getpid()
        self.running: list[EmbeddedPostgres] = []
        self.template = f"template_{self.pid}"
        self.urls: dict[str, str] = json.loads(os.environ.get(OF_THIS_RUN, "{}")) or self._start()
        os.environ[OF_THIS_RUN] = json.dumps(self.urls)
        for url in self.urls.values():
            run_sql(url, f"CREATE DATABASE {self.template}")
            upgrade(renamed(url, self.template))

    def _start(self) -> dict[str, str]:
        urls = {}
        for name, binaries in SERVERS.items():
            if NAMED_URL and name == "embedded":
                urls[name] = NAMED_URL
                continue
            self.running.append(EmbeddedPostgres(self.folder / name, binaries=binaries))
            with pytest.MonkeyPatch.context() as patched:
                patched.setitem(ALWAYS, "fsync", "off")  # what outlives a crash is shown on servers of the tests' own
                patched.setitem(ALWAYS, "max_connections", "400")  # each process of tests has several services there
                urls[name] = self.running[-1].start()
        return urls

    def stop(self) -> None:
        end_rabbit(self.folder)
        if NAMED_URL:  # which goes on, and is left as it was found
            asyncio.run(drop_databases(NAMED_URL, self.template))
        for server in self.running:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def renamed(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def run_sql(url: str, *statements: str) -> None:
    async def run() -> None:
        conn = await asyncpg.connect(url)
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    asyncio.run(run())


async def drop_databases(url: str, template: str) -> None:
    """A template and those that `make_database` has made."""
    ours = "SELECT datname FROM pg_database WHERE datname = $1 OR starts_with(datname, $1 || '_')"
    conn = await asyncpg.connect(url)
    try:
        for (name,) in await conn.fetch(ours, template):
            await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await conn.close()


def pytest_configure(config: pytest.Config) -> None:
    vars(httpx._config.DEFAULT_TIMEOUT_CONFIG).update(dict.fromkeys(("connect", "read", "write", "pool"), 60.0))
    config.addinivalue_line("markers", "uncounted: of the processes that it starts, coverage is not counted")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `./test &` does that, and children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        config.servers = Servers()  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that no process is left alone with one of them in the end."""
    places = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


_counting = pytest.StashKey[str | None]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[_counting] = os.environ.get(COUNTING)
    with pytest.MonkeyPatch.context() as patched:
        if item.path.parent.name in STORIES or item.get_closest_marker("uncounted"):
            patched.delenv(COUNTING, raising=False)
        return (yield)


def pytest_configure_node(node: Any) -> None:
    servers = node.config.servers
    node.workerinput |= {
        "pg_urls": servers.urls,
        "template": servers.template,
        "folder": str(servers.folder),
        "pid": servers.pid,
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "servers"):
        config.servers.stop()


@pytest.fixture(scope="session")
def server_urls(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each server's URL, with a database that nobody uses."""
    config = request.config
    return config.workerinput["pg_urls"] if hasattr(config, "workerinput") else config.servers.urls


@pytest.fixture(scope="session")
def rabbit_url(request: pytest.FixtureRequest) -> str:
    """The RabbitMQ of this run, without a vhost; whoever needs it first starts it."""
    config = request.config
    if hasattr(config, "workerinput"):
        return shared_rabbit(Path(config.workerinput["folder"]), config.workerinput["pid"])
    return shared_rabbit(config.servers.folder, config.servers.pid)


@pytest.fixture(scope="module")
def amqp_url(rabbit_url: str, request: pytest.FixtureRequest) -> str:
    """A vhost that only the tests of this file use."""
    config = request.config
    folder = Path(config.workerinput["folder"]) if hasattr(config, "workerinput") else config.servers.folder
    for number in range(VHOSTS):
        with suppress(FileExistsError):
            (folder / "rabbit" / f"v{number}").mkdir()
            return f"{rabbit_url}/v{number}"
    raise AssertionError("more files use RabbitMQ than there are vhosts: see VHOSTS")


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest) -> str:
    """The migrated database on each server, of which others are made."""
    config = request.config
    name: str = config.workerinput["template"] if hasattr(config, "workerinput") else config.servers.template
    return name


@pytest.fixture(scope="session")
def make_database(server_urls: dict[str, str], template: str) -> Any:
    """Makes a migrated database, or an empty one, its name the template's, that given, and numbers; returns its URL."""
    numbers = count()

    def make(name: str, server: str = "embedded", *, is_empty: bool = False) -> str:
        full_name = f"{template}_{name}_{os.getpid()}_{next(numbers)}"
        run_sql(server_urls[server], f"CREATE DATABASE {full_name}" + ("" if is_empty else f" TEMPLATE {template}"))
        return renamed(server_urls[server], full_name)

    return make


@pytest.fixture
def notes_url(make_database: Any) -> str:
    """A database for the product that takes notes."""
    url: str = make_database("notes")
    run_sql(url, NOTES)
    return url


@pytest.fixture(scope="session")
def pg_url(make_database: Any) -> str:
    """The database of this worker's tests. They leave rows behind, and tell their own by the import's number."""
    return make_database("kinfolk")


@pytest.fixture(scope="session")
async def db(pg_url: str) -> AsyncIterator[Database]:
    async with Database(pg_url, size=25) as db:
        yield db


@pytest.fixture(scope="session")
async def client(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the whole application, in this process."""
    auth = Auth(RULES, MemoryTokens(), events=EVENTS, is_required=False)
    transport = httpx.ASGITransport(application(MODULES, db, auth=auth))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk", timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def service(make_database: Any, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A running `kinfolk up` with two workers on a free port; counted, whoever is the first to need it."""
    words = ("--workers", "2", "--pg-url", make_database("service"))
    with Service("up", *words, environment={COUNTING: request.config.stash[_counting]}) as service:
        yield service


@pytest.fixture(scope="session")
def service_url(service: Service) -> str:
    return service.url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this worker's tests; each uses names of its own."""
    with RedisServer() as server:
        yield server
