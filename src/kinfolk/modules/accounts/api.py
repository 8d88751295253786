"""The HTTP face of accounts."""

from typing import Literal

from msgspec import UNSET, Struct

from kinfolk.kit import audit, problems
from kinfolk.kit.auth import TOKEN_SECONDS, DeadToken, NoToken, Role, TokensAway
from kinfolk.kit.http import Answer, Header, Request, delete, get, patch, post
from kinfolk.kit.http.bodies import UNREADABLE
from kinfolk.kit.passwords import CommonPassword, TooManyPasswords
from kinfolk.modules.accounts.accounts import (
    LastAdmin,
    NameTaken,
    NewUser,
    NoSuchUser,
    User,
    UserChange,
    add_user,
    change_user,
    find_users,
    list_users,
    remove_user,
)
from kinfolk.modules.accounts.floods import TooManyFailures
from kinfolk.modules.accounts.logins import Credentials, WrongLogin, WrongPassword, log_in
from kinfolk.modules.accounts.own_password import PasswordChange, change_password

ANNA = User(2, "anna", "analyst", True, "2026-11-22T15:04:05+00:00")
NOT_SHOWN = (NoToken, DeadToken, TokensAway)
NO_STORE = {"cache-control": "no-store"}
NOT_KEPT = Header("Cache-Control", "Nobody keeps the answer.", "no-store")


class Token(Struct):
    """What is sent as `Authorization: Bearer`."""

    access_token: str
    expires_in: int


class LoggedIn(Struct):
    """Name and password were right."""

    data: Token
    valid: Literal[True] = True


NEW_TOKEN = LoggedIn(Token("2u4Ki3LwYOLXo4bNBEbnbFgXgRgHxUDSHbhyNqUn2Lw", TOKEN_SECONDS))


class Me(Struct, rename={"user_id": "id"}):
    """Whose token it is."""

    user_id: int
    username: str
    role: Role


@post(
    "/user/auth",
    takes=Credentials,
    sent={"username": "anna", "password": "correct horse battery staple"},
    gives={200: LoggedIn},
    given=NEW_TOKEN,
    refuses=(*UNREADABLE, WrongLogin, TooManyFailures, TooManyPasswords, TokensAway),
    sets=[NOT_KEPT],
)
async def post_auth(request: Request) -> Answer:
    """Log in: a token for a name and a password."""
    given = await request.document(Credentials)
    token = await log_in(request.db, request.auth, given, request.address)
    return Answer.of(LoggedIn(Token(token, TOKEN_SECONDS)), headers=NO_STORE)


@delete("/user/auth", gives={204: None}, refuses=NOT_SHOWN)
async def delete_auth(request: Request) -> Answer:
    """Log out: this token is revoked."""
    token, _ = await request.shown_token()
    async with request.db.transaction() as conn:
        await request.auth.tokens.revoke(conn, token)
        await audit.note(conn, "logout")
    return Answer(status=204)


@delete("/user/sessions", gives={204: None}, refuses=NOT_SHOWN)
async def delete_sessions(request: Request) -> Answer:
    """Log out everywhere: all tokens of this user are revoked."""
    _, who = await request.shown_token()
    assert who.user_id is not None
    async with request.db.transaction() as conn:
        await request.auth.tokens.revoke_all(conn, who.user_id)
        await audit.note(conn, "logout.everywhere")
    return Answer(status=204)


@get("/user/me", gives={200: Me}, given=Me(2, "anna", "analyst"), refuses=NOT_SHOWN)
async def get_me(request: Request) -> Answer:
    """Whose token this is."""
    _, who = await request.shown_token()
    try:
        user = await request.db.gathered(find_users, who.user_id or 0)
    except NoSuchUser:  # gone this moment, and the token with them
        raise DeadToken from None
    return Answer.of(Me(user.user_id, user.username, user.role), headers=NO_STORE)


@patch(
    "/user/me",
    takes=PasswordChange,
    sent=PasswordChange("correct horse battery staple", "a password of my own"),
    gives={200: LoggedIn},
    given=NEW_TOKEN,
    refuses=(*UNREADABLE, *NOT_SHOWN, CommonPassword, WrongPassword, TooManyFailures, TooManyPasswords),
    sets=[NOT_KEPT],
)
async def patch_me(request: Request) -> Answer:
    """Take another password: all your tokens end, and the answer has a new one."""
    _, who = await request.shown_token()
    change = await request.document(PasswordChange)
    token = await change_password(request.db, request.auth, who, change, request.address)
    return Answer.of(LoggedIn(Token(token, TOKEN_SECONDS)), headers=NO_STORE)


@post(
    "/users",
    takes=NewUser,
    sent=NewUser("anna", "correct horse battery staple", "analyst"),
    gives={201: User},
    given=ANNA,
    refuses=(*UNREADABLE, CommonPassword, NameTaken, TooManyPasswords),
    sets=[Header("Location", "Where the user is.", "/api/v1/users/2")],
)
async def post_user(request: Request) -> Answer:
    """Add a user."""
    new = await request.document(NewUser)
    password_hash = await request.auth.passwords.hashed(new.password)
    async with request.db.transaction() as conn:
        user = await add_user(conn, new.username, password_hash, new.role)
    return Answer.of(user, 201, headers={"location": f"/api/v1/users/{user.user_id}"})


@get("/users", gives={200: list[User]}, given=[ANNA])
async def get_users(request: Request) -> Answer:
    """All users by number."""
    async with request.db.connection() as conn:
        return Answer.of(await list_users(conn))


@get("/users/{id}", gives={200: User}, given=ANNA, refuses=[NoSuchUser])
async def get_user(request: Request) -> Answer:
    """One user."""
    return Answer.of(await request.db.gathered(find_users, request.number("id", NoSuchUser)))


@patch(
    "/users/{id}",
    takes=UserChange,
    sent=UserChange(role="admin"),
    gives={200: User},
    given=ANNA,
    refuses=(*UNREADABLE, CommonPassword, NoSuchUser, LastAdmin, TooManyPasswords, TokensAway),
)
async def patch_user(request: Request) -> Answer:
    """Give a user another role or password, or let nobody be this user any more; it ends the user's tokens."""
    user_id = request.number("id", NoSuchUser)
    change = await request.document(UserChange)
    if change == UserChange():  # it would end the user's tokens for nothing
        raise problems.InvalidDocument([problems.BadPlace("", "must have at least one field")])
    password_hash = None if change.password is UNSET else await request.auth.passwords.hashed(change.password)
    async with request.db.transaction() as conn:
        user = await change_user(
            conn,
            request.auth.tokens,
            user_id,
            role=change.role or None,
            is_active=None if change.active is UNSET else change.active,
            password_hash=password_hash,
        )
    return Answer.of(user)


@delete("/users/{id}", gives={204: None}, refuses=[NoSuchUser, LastAdmin, TokensAway])
async def delete_user(request: Request) -> Answer:
    """Remove a user; what the user has added stays."""
    async with request.db.transaction() as conn:
        await remove_user(conn, request.auth.tokens, request.number("id", NoSuchUser))
    return Answer(status=204)


ROUTES = [
    post_auth,
    delete_auth,
    delete_sessions,
    get_me,
    patch_me,
    post_user,
    get_users,
    get_user,
    patch_user,
    delete_user,
]
