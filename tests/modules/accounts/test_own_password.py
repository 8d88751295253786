"""Users change their own passwords."""

import asyncio
from typing import Any

import pytest
from tests.memory_tokens import MemoryTokens
from tests.modules.accounts.conftest import PASSWORD, Guest, Hire, NewToken, at_once, log_in

from kinfolk.kit.auth import TOKEN_SECONDS, Auth, DeadToken, Who
from kinfolk.kit.db import Database
from kinfolk.kit.passwords import Passwords
from kinfolk.kit.tokens import Embedded
from kinfolk.modules.accounts import floods
from kinfolk.modules.accounts.own_password import PasswordChange, change_password

OTHER = "another password of mine"
CHANGE = {"current_password": PASSWORD, "password": OTHER}


@pytest.mark.parametrize("role", ["supplier", "analyst", "admin"])
async def test_a_changed_password_ends_every_token_and_gives_a_new_one(role: Any, hire: Hire, guest: Guest) -> None:
    someone, bystander = await hire(role), await hire(role)
    second = guest(await log_in(guest(), someone.username))
    answer = await second.patch("/user/me", json=CHANGE)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["data"]["access_token"]
    assert answer.json() == {"valid": True, "data": {"access_token": token, "expires_in": TOKEN_SECONDS}}
    assert (await guest(token).get("/user/me")).json() == {
        "id": someone.user_id,
        "username": someone.username,
        "role": role,
    }
    assert [(await each.get("/user/me")).status_code for each in (someone.client, second)] == [401, 401]
    assert (await bystander.client.get("/user/me")).status_code == 200
    refused = await guest().post("/user/auth", json={"username": someone.username, "password": PASSWORD})
    assert refused.status_code == 401
    await log_in(guest(), someone.username, OTHER)


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"current_password": "not mine"}, 403, None),
        ({"current_password": ""}, 403, None),
        ({"password": PASSWORD}, 400, "/password"),
        ({"password": "short"}, 400, "/password"),
        ({"password": "password1"}, 400, "/password"),
        ({"more": 1}, 400, "/more"),
        ({"role": "admin"}, 400, "/role"),
    ],
)
async def test_what_changes_no_password(
    hire: Hire, guest: Guest, change: dict[str, Any], status: int, pointer: str | None
) -> None:
    someone = await hire("analyst")
    answer = await someone.client.patch("/user/me", json=CHANGE | change)
    assert answer.status_code == status
    assert [bad["pointer"] for bad in answer.json().get("errors", [])] == ([] if pointer is None else [pointer])
    assert (await someone.client.patch("/user/me", json={"password": OTHER})).status_code == 400
    assert (await someone.client.get("/user/me")).status_code == 200
    await log_in(guest(), someone.username)
    assert (await someone.client.patch("/user/me", json=CHANGE)).status_code == 200


async def test_a_wrong_one_counts_as_a_login_that_failed_and_a_right_one_does_not(
    hire: Hire, guest: Guest, new_token: NewToken
) -> None:
    someone = await hire("analyst")
    wrong = CHANGE | {"current_password": "wrong"}
    for _ in range(floods.MOST_OF_ONE):
        assert (await someone.client.patch("/user/me", json=CHANGE | {"password": "password1"})).status_code == 400
    assert await at_once(*[someone.client.patch("/user/me", json=wrong) for _ in range(7)]) == [403] * 5 + [429] * 2
    refused = await someone.client.patch("/user/me", json=CHANGE)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    login = {"username": someone.username, "password": PASSWORD}
    assert (await someone.client.post("/user/auth", json=login)).status_code == 429
    elsewhere = guest(await new_token("analyst", someone.user_id))
    assert (await elsewhere.patch("/user/me", json=CHANGE)).status_code == 200


async def test_each_change_and_refusal_is_noted_without_a_word_of_it(hire: Hire, db: Database) -> None:
    someone = await hire("analyst")
    for current in ("wrong", PASSWORD):
        await someone.client.patch("/user/me", json=CHANGE | {"current_password": current})
    noted = "SELECT deed, facts, audit::text FROM audit WHERE by = $1 ORDER BY entry_id"
    async with db.connection() as conn:
        rows = await conn.fetch(noted, f"user:{someone.user_id}")
    assert [row[0] for row in rows] == ["password.refused", "user.changed"]
    assert '"fields":["password"]' in rows[1][1]
    assert not any(word in row[2] for row in rows for word in (PASSWORD, OTHER, someone.username))


async def test_the_first_password_ends_unless_another_takes_its_place(hire: Hire, guest: Guest, db: Database) -> None:
    """No other change of the user lets it stand, and neither does the same once more."""
    someone, admin = await hire("analyst"), await hire("admin")

    async def until() -> Any:
        async with db.connection() as conn:
            return await conn.fetchval("SELECT password_until FROM users WHERE user_id = $1", someone.user_id)

    async with db.connection() as conn:
        await conn.execute("UPDATE users SET password_until = now() + '1 h' WHERE user_id = $1", someone.user_id)
    ends_at = await until()
    assert (await someone.client.patch("/user/me", json=CHANGE | {"password": PASSWORD})).status_code == 400
    for change in ({"active": True}, {"role": "analyst"}):
        assert (await admin.client.patch(f"/users/{someone.user_id}", json=change)).status_code == 200
        assert await until() == ends_at
    fresh = guest(await log_in(guest(), someone.username))
    assert (await fresh.patch("/user/me", json=CHANGE)).status_code == 200
    assert await until() is None


class Meanwhile(Passwords):
    """Something happens to the user between the look at the password and the change."""

    def __init__(self, db: Database, statement: str, user_id: int) -> None:
        super().__init__()
        self._told = db, statement, user_id

    async def hashed(self, password: str) -> str:
        db, statement, user_id = self._told
        async with db.connection() as conn:
            await conn.execute(statement, user_id)
        return await super().hashed(password)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET is_active = false WHERE user_id = $1",
        "UPDATE users SET password_hash = 'another' WHERE user_id = $1",
        "DELETE FROM users WHERE user_id = $1",
    ],
)
async def test_what_changes_meanwhile_wins(statement: str, hire: Hire, db: Database) -> None:
    someone, tokens = await hire("analyst"), MemoryTokens()
    who, change = Who(someone.user_id, "analyst"), PasswordChange(PASSWORD, OTHER)
    with pytest.raises(DeadToken):
        await change_password(
            db, Auth({}, tokens, Meanwhile(db, statement, someone.user_id)), who, change, "192.0.2.20"
        )
    async with db.connection() as conn:
        row = await conn.fetchrow("SELECT is_active, password_hash FROM users WHERE user_id = $1", someone.user_id)
    assert row is None or row["password_hash"] == "another" or not row["is_active"]
    assert not tokens._kept
    with pytest.raises(DeadToken):  # gone, or with a hash that is none
        await change_password(db, Auth({}, tokens), Who(999_999_999, "analyst"), change, "192.0.2.20")


async def test_of_two_at_once_one_changes_it(hire: Hire, db: Database) -> None:
    """And nobody waits in a circle; the token of the one stands."""
    someone, store = await hire("analyst"), Embedded(db)
    who = Who(someone.user_id, "analyst")
    changes = [
        change_password(db, Auth({}, store), who, PasswordChange(PASSWORD, f"{OTHER} {number}"), "192.0.2.21")
        for number in range(4)
    ]
    ends = await asyncio.gather(*changes, return_exceptions=True)
    tokens = [end for end in ends if isinstance(end, str)]
    assert [type(end) for end in ends if not isinstance(end, str)] == [DeadToken] * 3
    assert await store.look_up(tokens[0]) == who
