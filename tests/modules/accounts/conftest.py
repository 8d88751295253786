"""An application that asks who it is, in this process: its users, their tokens, and clients who show them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.memory_tokens import MemoryTokens
from tests.modules.accounts.asking import SECRET, Asking
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.auth import Auth, Role, Tokens, Who
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application
from kinfolk.modules.accounts.accounts import add_user
from kinfolk.rules import RULES

PASSWORD = "correct horse battery staple"

# Addresses of the documentation's network, each for one test: failures count by address.
_addresses = (f"198.51.{high}.{low}" for high in count(100) for low in range(256))
_tokens = (f"token-{number}" for number in count())
_names = (f"user-{number}" for number in count())


class Someone(NamedTuple):
    user_id: int
    username: str
    client: httpx.AsyncClient
    """Shows a token of theirs."""


Guest = Callable[..., httpx.AsyncClient]
NewToken = Callable[..., Awaitable[str]]
Hire = Callable[..., Awaitable[Someone]]


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    """The one place to swap where the fast tests keep tokens."""
    return MemoryTokens()


@pytest.fixture(scope="session")
def app(db: Database, tokens: Tokens) -> Any:
    return application(MODULES, db, auth=Auth(RULES, tokens))


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    return lambda: next(_names)


@pytest.fixture
async def guest(app: Any) -> AsyncIterator[Guest]:
    """Makes clients, each at an address of its own, with a token or none."""
    made: list[httpx.AsyncClient] = []

    def make(token: str | None = None, address: str | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=(address or next(_addresses), 1))
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        client = httpx.AsyncClient(transport=transport, base_url="http://kinfolk/api/v1", headers=headers, timeout=60)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture(scope="session")
async def password_hash(app: Any) -> str:
    """Of PASSWORD."""
    return await Auth(RULES, MemoryTokens()).passwords.hashed(PASSWORD)


@pytest.fixture(scope="session")
def new_token(tokens: Tokens) -> NewToken:
    """Makes tokens without a password, which takes its time."""

    async def make(role: Role, user_id: int = 999_999_999, seconds: int = 600) -> str:
        token = next(_tokens)
        await tokens.keep(None, token, Who(user_id, role), seconds)  # type: ignore[arg-type]  # in memory none is needed
        return token

    return make


@pytest.fixture
async def hire(
    db: Database, guest: Guest, new_name: Callable[[], str], new_token: NewToken, password_hash: str
) -> Hire:
    """Adds a user of a role, who is logged in."""

    async def add(role: Role, *, is_logged_in: bool = True) -> Someone:
        async with db.transaction() as conn:
            user = await add_user(conn, new_name(), password_hash, role)
        token = await new_token(role, user.user_id) if is_logged_in else None
        return Someone(user.user_id, user.username, guest(token))

    return add


async def log_in(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> str:
    answer = await client.post("/user/auth", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text[:300]
    token: str = answer.json()["data"]["access_token"]
    return token


async def at_once(*asked: Awaitable[httpx.Response]) -> list[int]:
    """Ask all together; the statuses."""
    return sorted(answer.status_code for answer in await asyncio.gather(*asked))


@pytest.fixture(scope="session")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "password"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.fixture(scope="session")
def asking_url(make_database: Any) -> str:
    return make_database("asking")


@pytest.fixture(scope="session")
def asking(asking_url: str, secret: Path) -> Iterator[Asking]:
    """A running service of two workers that asks who it is."""
    words = ("--pg-url", asking_url)
    with Service("api", "--workers", "2", "--auth", "required", *words) as service:
        yield Asking(service, words, secret)
