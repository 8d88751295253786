"""Logging in: a name and a password for a token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from msgspec import Meta, Struct

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import TOKEN_SECONDS, Auth, Who
from kinfolk.kit.db import Database, DatabaseAway
from kinfolk.kit.log import note
from kinfolk.kit.tokens import new_token
from kinfolk.modules.accounts.floods import Attempt, count
from kinfolk.modules.accounts.statements import KNOWN, RENEWED, STILL_SO

Word = Annotated[str, Meta(max_length=1_024)]


class WrongLogin(problems.Unauthorized):
    """Wrong username or password."""


class WrongPassword(problems.Forbidden):
    """This is not your password."""


class Credentials(Struct, frozen=True, forbid_unknown_fields=True):
    """Who one says one is, by `username` or by `email`, which mean the same."""

    password: Word
    username: Word | None = None
    email: Word | None = None

    @property
    def name(self) -> str:
        """Raises InvalidDocument where there is none, or two."""
        named = [name for name in (self.username, self.email) if name is not None]
        if len(named) != 1:
            raise problems.InvalidDocument([problems.BadPlace("/username", "is needed, or email in its place")])
        return named[0]


async def log_in(db: Database, auth: Auth, given: Credentials, address: str) -> str:
    """A new token, for TOKEN_SECONDS. Raises WrongLogin, TooManyFailures, TooManyPasswords and TokensAway.

    It takes the same time for a name that nobody has.
    """
    async with counted(db, auth, given.name, address) as attempt:
        async with db.connection() as conn:
            known = await KNOWN.fetchrow(conn, username=given.name)
        user_id, kept = known or (None, None)
        outcome = await auth.passwords.compared(given.password, kept)
        if not outcome.is_right:
            failed = audit.entry("login.failed", by=audit.STRANGER, user_id=user_id)
            assert failed is not None
            await db.gathered(audit.keep_each, failed)
            raise WrongLogin
        async with db.transaction() as conn:
            if outcome.hash is None:
                role = await STILL_SO.fetchval(conn, user_id=user_id, password_hash=kept)
            else:
                role = await RENEWED.fetchval(conn, user_id=user_id, password_hash=kept, renewed=outcome.hash)
            if role is None:  # changed this moment
                raise WrongLogin
            who = Who(user_id, role)
            token = new_token()
            await auth.tokens.keep(conn, token, who, TOKEN_SECONDS)
            await audit.note(conn, "login", by=who.by)
            await attempt.forgive(conn)  # last: who counts waits for these rows
    note(by=who.by)
    return token


@asynccontextmanager
async def counted(db: Database, auth: Auth, username: str, address: str) -> AsyncIterator[Attempt]:
    """An attempt, which counts as a failure until it is forgiven: by the caller, or where a right password is no use.

    Raises TooManyFailures and TooManyPasswords.
    """
    attempt = Attempt(username, address)
    auth.passwords.require_room()
    await db.gathered(count, attempt)
    try:
        yield attempt
    except (WrongLogin, WrongPassword, DatabaseAway):
        raise
    except problems.Problem:
        async with db.connection() as conn:
            await attempt.forgive(conn)
        raise
