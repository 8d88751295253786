"""Users over HTTP: added, listed, changed, removed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.memory_tokens import MemoryTokens
from tests.modules.accounts.conftest import PASSWORD, Guest, Hire, Someone, at_once, log_in

from kinfolk.kit.db import Database
from kinfolk.modules.accounts.accounts import FIRST_NAME, LastAdmin, add_first_admin, change_user
from kinfolk.modules.accounts.logins import log_in as log_in_at

ROUNDS = 6


async def test_a_user_is_added_shown_and_can_log_in(hire: Hire, guest: Guest, new_name: Callable[[], str]) -> None:
    admin, name = await hire("admin"), new_name()
    new = {"username": name, "password": "a password of mine", "role": "supplier"}
    answer = await admin.client.post("/users", json=new)
    assert answer.status_code == 201
    user = answer.json()
    assert user == {"username": name, "role": "supplier", "active": True} | {
        key: user[key] for key in ("id", "created_at")
    }
    assert answer.headers["location"] == f"/api/v1/users/{user['id']}"
    assert (await admin.client.get(f"/users/{user['id']}")).json() == user
    assert user in (await admin.client.get("/users")).json()
    await log_in(guest(), name, "a password of mine")
    again = await admin.client.post("/users", json=new | {"username": name.upper()})
    assert again.status_code == 409
    assert (await admin.client.get("/users/999999999")).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"password": "short"}, "/password"),
        ({"password": "x" * 1_025}, "/password"),
        ({"password": "Password1"}, "/password"),
        ({"username": ""}, "/username"),
        ({"username": "two words"}, "/username"),
        ({"username": "anna\n"}, "/username"),
        ({"username": "x" * 101}, "/username"),
        ({"role": "owner"}, "/role"),
        ({"more": 1}, "/more"),
    ],
)
async def test_who_cannot_be_a_user(
    hire: Hire, new_name: Callable[[], str], change: dict[str, Any], pointer: str
) -> None:
    admin = await hire("admin")
    right = {"username": new_name(), "password": "пароль, которого нет", "role": "supplier"}
    answer = await admin.client.post("/users", json=right | change)
    assert answer.status_code == 400
    assert [bad["pointer"] for bad in answer.json()["errors"]] == [pointer]
    assert (await admin.client.post("/users", json=right)).status_code == 201


@pytest.mark.parametrize("change", [{"role": "supplier"}, {"password": "another password"}, {"active": False}])
async def test_a_change_ends_the_tokens(hire: Hire, guest: Guest, change: dict[str, Any]) -> None:
    admin, someone = await hire("admin"), await hire("analyst")
    assert (await someone.client.get("/user/me")).status_code == 200
    answer = await admin.client.patch(f"/users/{someone.user_id}", json=change)
    assert answer.status_code == 200
    assert (await someone.client.get("/user/me")).status_code == 401
    if "active" in change:
        refused = await guest().post("/user/auth", json={"username": someone.username, "password": PASSWORD})
        assert refused.status_code == 401
        await admin.client.patch(f"/users/{someone.user_id}", json={"active": True})
    token = await log_in(guest(), someone.username, change.get("password", PASSWORD))
    assert (await guest(token).get("/user/me")).json()["role"] == change.get("role", "analyst")


async def test_a_change_of_nothing_ends_nothing(hire: Hire) -> None:
    admin, someone = await hire("admin"), await hire("analyst")
    answer = await admin.client.patch(f"/users/{someone.user_id}", json={})
    assert (answer.status_code, [bad["pointer"] for bad in answer.json()["errors"]]) == (400, [""])
    assert (await someone.client.get("/user/me")).status_code == 200


async def test_a_user_goes_with_the_tokens(hire: Hire, guest: Guest) -> None:
    admin, someone = await hire("admin"), await hire("analyst")
    assert (await admin.client.delete(f"/users/{someone.user_id}")).status_code == 204
    assert (await admin.client.delete(f"/users/{someone.user_id}")).status_code == 404
    assert (await admin.client.patch(f"/users/{someone.user_id}", json={"role": "admin"})).status_code == 404
    assert (await someone.client.get("/user/me")).status_code == 401
    refused = await guest().post("/user/auth", json={"username": someone.username, "password": PASSWORD})
    assert refused.status_code == 401


async def test_one_admin_stays_whatever_two_do_to_each_other(hire: Hire, db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute("UPDATE users SET role = 'analyst' WHERE role = 'admin'")
    one, two = await hire("admin"), await hire("admin")
    statuses = await at_once(
        one.client.patch(f"/users/{two.user_id}", json={"role": "analyst"}),
        two.client.delete(f"/users/{one.user_id}"),
    )
    assert statuses in ([200, 409], [204, 409], [200, 401], [204, 401], [200, 403], [204, 403])
    async with db.connection() as conn:
        (left,) = [row[0] for row in await conn.fetch("SELECT user_id FROM users WHERE role = 'admin' AND is_active")]
    admin = one if left == one.user_id else two
    for answer in (
        await admin.client.delete(f"/users/{left}"),
        await admin.client.patch(f"/users/{left}", json={"active": False}),
        await admin.client.patch(f"/users/{left}", json={"role": "analyst"}),
    ):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/last-admin"
    assert (await admin.client.get("/user/me")).json()["role"] == "admin"


async def test_twenty_who_fight_over_two_admins_leave_one(hire: Hire, db: Database) -> None:
    """And each is told so; nobody waits in a circle."""
    async with db.connection() as conn:
        await conn.execute("UPDATE users SET role = 'analyst' WHERE role = 'admin'")
    for _ in range(ROUNDS):
        pair = [await hire("admin", is_logged_in=False) for _ in range(2)]

        async def demote(number: int, pair: list[Someone] = pair) -> None:
            changes: list[dict[str, Any]] = [{"role": "analyst"}, {"is_active": False}]
            async with db.transaction() as conn:
                await change_user(conn, MemoryTokens(), pair[number % 2].user_id, **changes[number // 2 % 2])

        ends = await asyncio.gather(*(demote(number) for number in range(20)), return_exceptions=True)
        assert {type(end) for end in ends} == {type(None), LastAdmin}
        async with db.transaction() as conn:
            left = await conn.fetch("SELECT user_id FROM users WHERE role = 'admin' AND is_active")
            assert len(left) == 1
            await conn.execute("UPDATE users SET role = 'analyst' WHERE user_id = $1", left[0][0])


@pytest.fixture(scope="module")
def without_users(make_database: Any) -> str:
    return make_database("first")


async def test_the_first_admin_is_made_once_and_the_password_ends(without_users: str) -> None:
    async with Database(without_users, size=8) as empty:

        async def ask() -> Any:
            async with empty.transaction() as conn:
                return await add_first_admin(conn)

        made = [each for each in await asyncio.gather(*(ask() for _ in range(6))) if each is not None]
        ((user, password),) = made
        assert (user.username, user.role) == (FIRST_NAME, "admin")
        assert len(password) == 20

        from kinfolk.kit.auth import Auth
        from kinfolk.modules.accounts.logins import Credentials, WrongLogin

        auth = Auth({}, MemoryTokens())
        assert await log_in_at(empty, auth, Credentials(password, FIRST_NAME), "192.0.2.1")
        async with empty.connection() as conn:
            await conn.execute("UPDATE users SET password_until = now()")
        with pytest.raises(WrongLogin):
            await log_in_at(empty, auth, Credentials(password, FIRST_NAME), "192.0.2.1")
