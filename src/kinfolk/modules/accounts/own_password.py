"""A user takes another password."""

from msgspec import Struct

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import TOKEN_SECONDS, Auth, DeadToken, Who
from kinfolk.kit.db import Database
from kinfolk.kit.log import note
from kinfolk.kit.tokens import new_token
from kinfolk.modules.accounts.accounts import NoSuchUser, Password, change_user
from kinfolk.modules.accounts.logins import Word, WrongPassword, counted
from kinfolk.modules.accounts.statements import PROVABLE


class PasswordChange(Struct, frozen=True, forbid_unknown_fields=True):
    """One's own password, and the one that is to take its place."""

    current_password: Word
    password: Password


async def change_password(db: Database, auth: Auth, who: Who, change: PasswordChange, address: str) -> str:
    """A new token, for TOKEN_SECONDS; all that the user had are ended.

    A wrong password counts as a login that failed. Raises WrongPassword, CommonPassword, InvalidDocument for the same
    password once more, DeadToken where the user is changed meanwhile, TooManyFailures, TooManyPasswords and TokensAway.
    """
    if change.password == change.current_password:  # else the first administrator's, which Kinfolk made up, could stay
        raise problems.InvalidDocument([problems.BadPlace("/password", "is the one you have: take another")])
    assert who.user_id is not None, "a token stands for a user"
    note(by=who.by)
    async with db.connection() as conn:
        known = await PROVABLE.fetchrow(conn, user_id=who.user_id)
    if known is None:
        raise DeadToken
    username, kept = known
    async with counted(db, auth, username, address) as attempt:
        if not (await auth.passwords.compared(change.current_password, kept)).is_right:
            refused = audit.entry("password.refused", by=who.by)
            assert refused is not None
            await db.gathered(audit.keep_each, refused)
            raise WrongPassword
        password_hash = await auth.passwords.hashed(change.password)
        token = new_token()
        async with db.transaction() as conn:
            try:
                user = await change_user(conn, auth.tokens, who.user_id, password_hash=password_hash, proved_hash=kept)
            except NoSuchUser:
                raise DeadToken from None
            if not user.is_active:
                raise DeadToken
            await auth.tokens.keep(conn, token, Who(user.user_id, user.role), TOKEN_SECONDS)
            await attempt.forgive(conn)  # last: who counts waits for these rows
    return token
