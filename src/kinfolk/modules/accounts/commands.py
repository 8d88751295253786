"""The operator's commands: `kinfolk user add`, `list`, `disable` and `reset`. They speak to the database itself."""

import sys
from collections.abc import Awaitable, Callable
from getpass import getpass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from cyclopts import App, Parameter

from kinfolk.kit import log
from kinfolk.kit.auth import Role, Tokens, TokensAway
from kinfolk.kit.client import printable
from kinfolk.kit.database_url import check_redis_url, done_there
from kinfolk.kit.db import Connection, Database
from kinfolk.kit.documents import read_json
from kinfolk.kit.ending import FAILED, OK, Ended, Missing, WrongSetting, ends_plainly
from kinfolk.kit.passwords import Passwords
from kinfolk.kit.settings import CacheSettings, DatabaseSettings, FileSettings
from kinfolk.kit.tokens import are_elsewhere, kept_tokens
from kinfolk.modules.accounts.accounts import (
    NewUser,
    User,
    UserChange,
    add_user,
    change_user,
    find_named,
    list_users,
)

T = TypeVar("T")

app = App("user", help="Look after users, in the database itself: add, list, disable, reset.")

Name = Annotated[str, Parameter(help="The name to log in with.")]
PasswordFile = Annotated[
    Path | None,
    Parameter(
        allow_leading_hyphen=True,
        help="A file that holds the password, - for standard input. Without it: you are asked.",
    ),
]


@app.command
@ends_plainly
def add(
    username: Name,
    /,
    *,
    role: Annotated[Role, Parameter(help="What the user may do.")],
    password_file: PasswordFile = None,
    database: DatabaseSettings = DatabaseSettings(),
    cache: CacheSettings = CacheSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Add a user."""
    password = read_password(password_file)

    async def change(conn: Connection, _tokens: Tokens) -> User:
        new = read_json(msgspec.json.encode({"username": username, "password": password, "role": role}), NewUser)
        return await add_user(conn, new.username, await Passwords().hashed(new.password), new.role)

    print(_line(_done(change, database, cache)))
    return OK


@app.command(name="list")
@ends_plainly
def list_all(
    *,
    database: DatabaseSettings = DatabaseSettings(),
    cache: CacheSettings = CacheSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """List users by number: number, role, whether they may log in, since when, name."""

    async def read(conn: Connection, _tokens: Tokens) -> list[User]:
        return await list_users(conn)

    for user in _done(read, database, cache):
        print(_line(user))
    return OK


@app.command
@ends_plainly
def disable(
    username: Name,
    /,
    *,
    database: DatabaseSettings = DatabaseSettings(),
    cache: CacheSettings = CacheSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Let nobody log in as this user any more, and end the user's tokens (those in a Redis: with --redis-url)."""

    async def change(conn: Connection, tokens: Tokens) -> tuple[User, bool]:
        user = await find_named(conn, username)
        changed = await change_user(conn, tokens, user.user_id, is_active=False)
        return changed, await are_elsewhere(conn, user.user_id)

    user, has_tokens = _done(change, database, cache)
    return _tell(user, has_tokens=has_tokens)


@app.command
@ends_plainly
def reset(
    username: Name,
    /,
    *,
    password_file: PasswordFile = None,
    database: DatabaseSettings = DatabaseSettings(),
    cache: CacheSettings = CacheSettings(),
    settings: FileSettings = FileSettings(),
) -> int:
    """Give a user another password, let the user log in again, and end the user's tokens (as with disable)."""
    password = read_password(password_file)

    async def change(conn: Connection, tokens: Tokens) -> tuple[User, bool]:
        given = read_json(msgspec.json.encode({"password": password}), UserChange)
        assert isinstance(given.password, str)
        kept = await Passwords().hashed(given.password)
        user = await find_named(conn, username)
        changed = await change_user(conn, tokens, user.user_id, is_active=True, password_hash=kept)
        return changed, await are_elsewhere(conn, user.user_id)

    user, has_tokens = _done(change, database, cache)
    return _tell(user, has_tokens=has_tokens)


def read_password(file: Path | None) -> str:
    """What the file holds, or whoever sits there types, twice; never an argument, which everybody could see."""
    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WrongSetting(f"--password-file {file} cannot be read: {error}") from None
        return text.removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty():
        raise WrongSetting("there is nobody to ask for the password: --password-file FILE, or - for standard input")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise Ended(FAILED, "these were two passwords")
    return password


def _done(
    operation: Callable[[Connection, Tokens], Awaitable[T]], database: DatabaseSettings, cache: CacheSettings
) -> T:
    """What the operation gives, in a transaction. Raises Ended for its refusals."""
    check_redis_url(cache)

    async def work(db: Database) -> T:
        try:
            async with kept_tokens(db, cache.redis_url, db.url) as tokens, db.transaction() as conn:
                with log.facts(by="command"):
                    return await operation(conn, tokens)
        except TokensAway:
            raise Missing("the Redis of --redis-url does not answer, so nothing was changed") from None

    return done_there(database, work)


def _tell(user: User, *, has_tokens: bool) -> int:
    print(_line(user))
    if has_tokens:
        raise Ended(FAILED, "tokens of this user are in a Redis, and stand: say it again with --redis-url")
    return OK


def _line(user: User) -> str:
    may = "active" if user.is_active else "disabled"
    return f"{user.user_id:>6}  {user.role:8}  {may:8}  {user.created_at}  {printable(user.username)}"
