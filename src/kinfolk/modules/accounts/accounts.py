"""Users: added, listed, changed and removed; the first one, too."""

import secrets
from datetime import timedelta
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import Role, Tokens
from kinfolk.kit.db import Connection
from kinfolk.kit.log import note
from kinfolk.kit.passwords import Passwords
from kinfolk.kit.statement import Moment
from kinfolk.modules.accounts.statements import (
    ADDED,
    ADMINS,
    ALL,
    AMONG,
    CHANGED,
    IS_EMPTY,
    NAMED,
    ONE_AT_A_TIME,
    REMOVED,
)

FIRST_NAME = "admin"
FIRST_PASSWORD_LIFETIME = timedelta(days=1)
FIRST_PASSWORD_BYTES = 15

Username = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[^\s\x00-\x1f\x7f]+(?!\n)$", description="Without blanks.")
]
Password = Annotated[str, Meta(min_length=8, max_length=1_024)]


class NoSuchUser(problems.NotFound):
    """There is no such user."""


class NameTaken(problems.Conflict):
    """Another user has this name."""


class LastAdmin(problems.Conflict):
    """Without this user there would be no administrator."""


class NewUser(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who is to have an account."""

    username: Username
    password: Password
    role: Role


class UserChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be different; it ends what the user is logged in with."""

    role: Role | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class User(Struct, frozen=True, rename={"user_id": "id", "is_active": "active"}):
    """Somebody who has an account."""

    user_id: int
    username: str
    role: Role
    is_active: bool
    created_at: Moment


async def add_user(
    conn: Connection, username: str, password_hash: str, role: Role, lifetime: timedelta | None = None
) -> User:
    """Add a user, whose password ends after `lifetime`. Raises NameTaken."""
    values = {"username": username, "password_hash": password_hash, "role": role, "lifetime": lifetime}
    row = await ADDED.fetchrow_or(conn, NameTaken(), **values)
    await audit.note(conn, "user.added", user_id=row[0], role=role)
    note(user_id=row[0])
    return User(*row)


async def list_users(conn: Connection) -> list[User]:
    """All users by number."""
    return [User(*row) for row in await ALL.fetch(conn)]


async def find_users(conn: Connection, numbers: list[int]) -> list[User | NoSuchUser]:
    """Each user in its place."""
    found = {row[0]: User(*row) for row in await AMONG.fetch(conn, numbers=numbers)}
    return [found.get(number) or NoSuchUser(user_id=number) for number in numbers]


async def find_named(conn: Connection, username: str) -> User:
    """The user of this name, in small letters or capital ones. Raises NoSuchUser."""
    return User(*await NAMED.fetchrow_or(conn, NoSuchUser(), username=username))


async def change_user(
    conn: Connection,
    tokens: Tokens,
    user_id: int,
    *,
    role: Role | None = None,
    is_active: bool | None = None,
    password_hash: str | None = None,
    proved_hash: str | None = None,
) -> User:
    """Change what is not None, and end the user's tokens; with `proved_hash`, only where that is kept of the password.

    Raises NoSuchUser, LastAdmin and TokensAway.
    """
    admins = await _admins(conn)
    asked = {"role": role, "is_active": is_active, "password_hash": password_hash, "proved_hash": proved_hash}
    user = User(*await CHANGED.fetchrow_or(conn, NoSuchUser(user_id=user_id), user_id=user_id, **asked))
    if admins == [user_id] and not (user.is_active and user.role == "admin"):
        raise LastAdmin
    await tokens.revoke_all(conn, user_id)
    changed = {"role": role, "active": is_active, "password": password_hash}
    fields = [name for name, value in changed.items() if value is not None]
    await audit.note(conn, "user.changed", user_id=user_id, fields=fields, role=user.role, is_active=user.is_active)
    return user


async def remove_user(conn: Connection, tokens: Tokens, user_id: int) -> None:
    """Remove a user, and end the user's tokens. Raises as `change_user`."""
    admins = await _admins(conn)
    if admins == [user_id]:
        raise LastAdmin
    await REMOVED.fetchrow_or(conn, NoSuchUser(user_id=user_id), user_id=user_id)
    await tokens.revoke_all(conn, user_id)
    await audit.note(conn, "user.removed", user_id=user_id)


async def _admins(conn: Connection) -> list[int]:
    """Those there are until this transaction ends, but for new ones."""
    await ONE_AT_A_TIME.execute(conn)
    return [row[0] for row in await ADMINS.fetch(conn)]


async def add_first_admin(conn: Connection) -> tuple[User, str] | None:
    """An administrator, and the password, if there is no user yet: once, however many ask at a time."""
    await ONE_AT_A_TIME.execute(conn)
    if not await IS_EMPTY.fetchval(conn):
        return None
    password = secrets.token_urlsafe(FIRST_PASSWORD_BYTES)
    kept = await Passwords().hashed(password)
    return await add_user(conn, FIRST_NAME, kept, "admin", FIRST_PASSWORD_LIFETIME), password
