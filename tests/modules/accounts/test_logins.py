"""Logging in and out, and what happens to those who try too often."""

import statistics
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from tests.memory_tokens import MemoryTokens
from tests.modules.accounts.conftest import PASSWORD, Guest, Hire, at_once, log_in

from kinfolk.kit import passwords
from kinfolk.kit.auth import TOKEN_SECONDS, Auth, TokensAway, Who
from kinfolk.kit.db import Database
from kinfolk.kit.passwords import Call, Passwords, TooManyPasswords, done
from kinfolk.kit.tokens import Embedded
from kinfolk.modules.accounts import floods
from kinfolk.modules.accounts.floods import Attempt, TooManyFailures, count
from kinfolk.modules.accounts.jobs import forget
from kinfolk.modules.accounts.logins import Credentials, WrongLogin

WINDOW = timedelta(seconds=120)


async def test_who_logs_in_gets_a_token_that_says_who_it_is(hire: Hire, guest: Guest) -> None:
    someone = await hire("analyst", is_logged_in=False)
    answer = await guest().post("/user/auth", json={"username": someone.username.upper(), "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["data"].pop("access_token")
    assert answer.json() == {"valid": True, "data": {"access_token": token, "expires_in": TOKEN_SECONDS}}
    assert len(token) == 43  # 256 bits
    me = await guest(token).get("/user/me")
    assert me.json() == {"id": someone.user_id, "username": someone.username, "role": "analyst"}


async def test_the_older_address_and_the_older_word_do_as_well(hire: Hire, guest: Guest) -> None:
    someone = await hire("analyst", is_logged_in=False)
    answer = await guest().post(
        "http://kinfolk/api/v1.0/user/auth", json={"email": someone.username, "password": PASSWORD}
    )
    assert answer.status_code == 200
    assert (await guest().get("http://kinfolk/api/v1.0/user/me")).status_code == 401


async def test_a_wrong_password_and_an_unknown_name_are_answered_alike(hire: Hire, guest: Guest, db: Database) -> None:
    someone = await hire("analyst", is_logged_in=False)
    gone = await hire("analyst", is_logged_in=False)
    async with db.connection() as conn:
        await conn.execute("UPDATE users SET is_active = false WHERE user_id = $1", gone.user_id)
    wrong = [(someone.username, "wrong"), ("nobody at all", "wrong"), ("nobody at all", PASSWORD)]
    wrong += [(gone.username, PASSWORD), (someone.username, "")]
    answers = [await guest().post("/user/auth", json={"username": name, "password": word}) for name, word in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    (body,) = {answer.text for answer in answers}
    assert "Wrong username or password" in body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"password": "x"},
        {"username": "a", "email": "a", "password": "x"},
        {"username": "a", "password": "x" * 1_025},
        {"username": 1, "password": "x"},
        {"username": "a", "password": "x", "more": 1},
    ],
)
async def test_what_is_no_login_is_malformed(guest: Guest, body: dict[str, Any]) -> None:
    answer = await guest().post("/user/auth", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"]


async def test_who_logs_out_is_out_and_others_are_not(hire: Hire, guest: Guest) -> None:
    someone, other = await hire("analyst"), await hire("analyst")
    second = guest(await log_in(guest(), someone.username))
    assert (await someone.client.delete("/user/auth")).status_code == 204
    assert (await someone.client.get("/user/me")).status_code == 401
    assert (await second.get("/user/me")).status_code == 200
    third = guest(await log_in(guest(), someone.username))
    assert (await third.delete("/user/sessions")).status_code == 204
    assert (await second.get("/user/me")).status_code == 401
    assert (await third.get("/user/me")).status_code == 401
    assert (await other.client.get("/user/me")).status_code == 200
    assert (await guest().delete("/user/auth")).status_code == 401


async def test_an_older_hash_is_renewed_at_login(
    hire: Hire, guest: Guest, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = await hire("analyst", is_logged_in=False)
    with monkeypatch.context() as older:
        older.setattr(passwords, "PASSES", 1)
        kept = done(Call(PASSWORD, None)).hash

    async def now_kept() -> str:
        async with db.connection() as conn:
            return str(await conn.fetchval("SELECT password_hash FROM users WHERE user_id = $1", someone.user_id))

    async with db.connection() as conn:
        await conn.execute("UPDATE users SET password_hash = $2 WHERE user_id = $1", someone.user_id, kept)
    assert ",t=1," in await now_kept()
    assert (await guest().post("/user/auth", json={"username": someone.username, "password": "x"})).status_code == 401
    assert ",t=1," in await now_kept()
    await log_in(guest(), someone.username)
    renewed = await now_kept()
    assert "$m=19456,t=2,p=1$" in renewed
    await log_in(guest(), someone.username)
    assert await now_kept() == renewed


async def test_what_changes_during_a_login_wins(hire: Hire, guest: Guest, db: Database) -> None:
    """The password is right when it is looked at, and the account is closed before there is a token."""
    someone = await hire("analyst", is_logged_in=False)

    class Slow(Passwords):
        async def compared(self, password: str, kept: str | None) -> Any:
            outcome = await super().compared(password, kept)
            async with db.connection() as conn:
                await conn.execute("UPDATE users SET is_active = false WHERE user_id = $1", someone.user_id)
            return outcome

    from kinfolk.modules.accounts.logins import log_in

    with pytest.raises(WrongLogin):
        await log_in(db, Auth({}, MemoryTokens(), Slow()), Credentials(PASSWORD, someone.username), "192.0.2.9")


async def test_a_name_that_nobody_has_takes_as_long_as_a_wrong_password(
    hire: Hire, guest: Guest, new_name: Callable[[], str]
) -> None:
    """Two distributions are one if either is as likely to be ahead: turn by turn, so that what else is busy is fair.

    By chance alone, 16 against 16 come to 0.5 ± 0.1 (Mann and Whitney); without the hash they come to 0 or 1.
    """
    names = {"known": (await hire("analyst", is_logged_in=False)).username, "unknown": new_name()}
    taken: dict[str, list[float]] = {kind: [] for kind in names}
    for _ in range(17):
        for kind, name in names.items():
            client = guest()
            begun = perf_counter()
            answer = await client.post("/user/auth", json={"username": name, "password": "wrong"})
            taken[kind].append(perf_counter() - begun)
            assert answer.status_code == 401
    known, unknown = (times[1:] for times in taken.values())  # the first one loads what all need
    ahead = statistics.mean(one < other for one in known for other in unknown)
    assert 0.05 < ahead < 0.95


async def test_each_login_hashes_once_whoever_it_is(hire: Hire, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    someone = await hire("analyst", is_logged_in=False)
    asked: list[str | None] = []

    def counted(call: Call) -> Any:
        asked.append(call.kept)
        return done(call)

    monkeypatch.setattr(passwords, "done", counted)
    for name in (someone.username, "nobody at all"):
        await guest().post("/user/auth", json={"username": name, "password": "wrong"})
    assert len(asked) == 2
    assert asked[1] == passwords.NO_PASSWORD
    parameters = {str(kept).split("$")[3] for kept in asked}
    assert parameters == {"m=19456,t=2,p=1"}


async def test_who_fails_too_often_waits_and_nobody_else_does(hire: Hire, guest: Guest, db: Database) -> None:
    someone, other = await hire("analyst", is_logged_in=False), await hire("analyst", is_logged_in=False)
    attacker = guest()
    wrong = {"username": someone.username, "password": "wrong"}
    assert await at_once(*[attacker.post("/user/auth", json=wrong) for _ in range(8)]) == [401] * 5 + [429] * 3
    answer = await attacker.post("/user/auth", json=wrong | {"password": PASSWORD})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    await log_in(guest(), someone.username)  # from another address
    await log_in(attacker, other.username)  # somebody else from the same
    async with db.connection() as conn:
        await conn.execute("UPDATE login_failures SET since = since - $1::interval", WINDOW)
    await log_in(attacker, someone.username)


async def test_a_flood_from_everywhere_locks_nobody_out(hire: Hire, guest: Guest) -> None:
    someone = await hire("analyst", is_logged_in=False)
    wrong = {"username": someone.username, "password": "wrong"}
    flood = [guest() for _ in range(8)]
    for _ in range(3):
        await at_once(*[each.post("/user/auth", json=wrong) for each in flood])
    assert (await flood[0].post("/user/auth", json=wrong)).status_code == 429  # after three instead of five
    newcomer = guest()
    assert (await newcomer.post("/user/auth", json=wrong)).status_code == 401
    assert (await newcomer.post("/user/auth", json=wrong)).status_code == 429
    await log_in(guest(), someone.username)


async def test_an_address_that_tries_many_names_waits_and_fills_no_table(
    new_name: Callable[[], str], db: Database
) -> None:
    rows = "SELECT count(*) FROM login_failures"
    network = ["2001:db8:1:1::1", "2001:db8:1:1:ffff::2"]
    async with db.transaction() as conn:
        many = [Attempt(new_name(), network[number % 2]) for number in range(floods.MOST_OF_ADDRESS)]
        assert await count(conn, many) == [None] * floods.MOST_OF_ADDRESS
        before = await conn.fetchval(rows)
        others = [Attempt(new_name(), address) for address in ("2001:db8:1:2::1", "::ffff:192.0.2.77", "")]
        refused = [isinstance(each, TooManyFailures) for each in await count(conn, [*many, *others])]
        assert refused == [True] * len(many) + [False] * len(others)
        assert await conn.fetchval(rows) == before + 3 * len(others)


async def test_a_clock_that_is_put_back_keeps_nobody_out(new_name: Callable[[], str], db: Database) -> None:
    name = new_name()
    attempts = [Attempt(name, "198.51.100.3") for _ in range(floods.MOST_OF_ONE + 2)]
    async with db.transaction() as conn:
        assert [each is not None for each in await count(conn, attempts)] == [False] * 5 + [True] * 2
        await conn.execute("UPDATE login_failures SET since = since + interval '5 s'")
        (refused,) = await count(conn, attempts[:1])
        assert refused is not None
        assert refused.retry_after_seconds == 120
        await conn.execute("UPDATE login_failures SET since = since + interval '1 h'")
        assert [each is not None for each in await count(conn, attempts)] == [False] * 5 + [True] * 2


async def test_no_spelling_that_the_database_takes_for_a_name_has_a_count_of_its_own(db: Database) -> None:
    letters = [chr(number) for number in range(1, 0x2_0000) if chr(number).isalpha()]
    async with db.connection() as conn:
        small = await conn.fetch("SELECT lower(letter) FROM unnest($1::text[]) AS letter", letters)
    alike = [(letter, row[0]) for letter, row in zip(letters, small, strict=True) if letter != row[0]]
    assert len(alike) > 1_000
    assert not [(one, two) for one, two in alike if Attempt(one, "").of_account != Attempt(two, "").of_account]


async def test_a_right_password_is_no_failure_while_tokens_cannot_be_kept(hire: Hire, db: Database) -> None:
    someone = await hire("analyst", is_logged_in=False)

    class Away(MemoryTokens):
        async def keep(self, *_words: Any) -> None:
            raise TokensAway

    from kinfolk.modules.accounts.logins import log_in

    given = Credentials(PASSWORD, someone.username)
    for _ in range(floods.MOST_OF_ONE + 1):
        with pytest.raises(TokensAway):
            await log_in(db, Auth({}, Away()), given, "192.0.2.11")
    assert await log_in(db, Auth({}, MemoryTokens()), given, "192.0.2.11")


async def test_those_who_are_counted_together_are_counted_one_after_another(
    new_name: Callable[[], str], db: Database
) -> None:
    name = new_name()
    one, other = [Attempt(name, "198.51.100.1") for _ in range(7)], [Attempt(name, "198.51.100.2") for _ in range(3)]
    async with db.transaction() as conn:
        refused = [each is not None for each in await count(conn, [*one, *other])]
        assert refused == [False] * 5 + [True] * 2 + [False] * 3
        await one[0].forgive(conn)
        refused = [each is not None for each in await count(conn, [one[0], *other])]
        assert refused == [True, False, False, True]  # seven less one, and one more; three and three more


async def test_logging_in_often_is_no_failure(hire: Hire, guest: Guest) -> None:
    someone = await hire("analyst", is_logged_in=False)
    program = guest()
    for _ in range(floods.MOST_OF_ONE + 2):
        await log_in(program, someone.username)


async def test_a_line_too_long_is_told_to_come_back_and_counts_nothing(
    hire: Hire, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = await hire("analyst", is_logged_in=False)
    program = guest()
    with monkeypatch.context() as full:
        full.setattr(passwords, "MOST_WAITING", 0)
        for _ in range(floods.MOST_OF_ONE + 1):
            answer = await program.post("/user/auth", json={"username": someone.username, "password": PASSWORD})
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) <= 120
    await log_in(program, someone.username)


async def test_a_process_that_dies_over_a_password_counts_nothing(hire: Hire, db: Database) -> None:
    someone = await hire("analyst", is_logged_in=False)

    class Dying(Passwords):
        async def compared(self, password: str, kept: str | None) -> Any:
            raise TooManyPasswords

    from kinfolk.modules.accounts.logins import log_in

    given = Credentials(PASSWORD, someone.username)
    for _ in range(floods.MOST_OF_ONE + 1):
        with pytest.raises(TooManyPasswords):
            await log_in(db, Auth({}, MemoryTokens(), Dying()), given, "192.0.2.10")
    assert await log_in(db, Auth({}, MemoryTokens()), given, "192.0.2.10")


async def test_what_no_longer_counts_is_forgotten(db: Database, tokens: Any) -> None:
    kept = Embedded(db)
    async with db.transaction() as conn:
        await forget(conn)
        await kept.keep(conn, "expired", Who(1, "analyst"), -1)
        await kept.keep(conn, "standing", Who(1, "analyst"), 60)
        await count(conn, [Attempt("old", "192.0.2.1")])
        await conn.execute("UPDATE login_failures SET since = since - $1::interval", 2 * WINDOW)
        await count(conn, [Attempt("new", "192.0.2.2")])
        forgotten = await forget(conn)
    assert forgotten.tokens == 1
    assert forgotten.failures >= 3
    assert await kept.look_up("standing") == Who(1, "analyst")
