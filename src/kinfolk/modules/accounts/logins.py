"""Logging in: a name and a password for a token."""

from typing import Annotated

from msgspec import Meta, Struct

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import TOKEN_SECONDS, Auth, Who
from kinfolk.kit.db import Database
from kinfolk.kit.log import note
from kinfolk.kit.tokens import new_token
from kinfolk.modules.accounts.floods import Attempt, count
from kinfolk.modules.accounts.statements import KNOWN, RENEWED, STILL_SO

Word = Annotated[str, Meta(max_length=1_024)]


class WrongLogin(problems.Unauthorized):
    """Wrong username or password."""


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
    attempt = Attempt(given.name, address)
    auth.passwords.require_room()
    await db.gathered(count, attempt)
    async with db.connection() as conn:
        known = await KNOWN.fetchrow(conn, username=given.name)
    user_id, kept = known or (None, None)
    try:
        outcome = await auth.passwords.compared(given.password, kept)
    except problems.Unavailable:
        async with db.connection() as conn:
            await attempt.forgive(conn)
        raise
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
