"""Who is told of what, and by which code a socket that closes is counted: without a socket."""

import asyncio

import pytest
from tests.memory_tokens import MemoryTokens

from kinfolk.kit.auth import Auth, Role, Rule, Who
from kinfolk.kit.db import Database
from kinfolk.kit.http import audience
from kinfolk.kit.metrics import _close_code


def test_a_metric_knows_few_codes() -> None:
    assert [_close_code(code) for code in (1000, 1006, 4401, 4408, 4429, 3000, 4999)] == [
        *("1000", "1006", "4401", "4408", "4429"),
        *("other", "other"),
    ]


async def test_who_hears_nothing_ends_nothing(db: Database) -> None:
    made = audience.Audience(db, Auth({}, MemoryTokens()), 1)
    await made.ready()
    for _ in range(2):
        made._end_hearing()
        assert made._ear is None


async def test_those_who_ask_at_once_are_no_more_than_may_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them wait until the database can be heard, as after a restart."""
    monkeypatch.setattr(audience, "PATIENCE_SECONDS", 0.1)
    async with Database("postgresql://nobody@127.0.0.1:1/nothing") as away:
        made = audience.Audience(away, Auth({}, MemoryTokens()), 2)
        ends = await asyncio.gather(*(made.ready() for _ in range(5)), return_exceptions=True)
        made._end_hearing()
    assert [type(end) for end in ends] == [audience.EventsAway] * 2 + [audience.TooManySockets] * 3


def test_a_rule_that_grants_own_shows_nobodys_to_nobody() -> None:
    told = audience._Told(Rule(supplier="own"), None, b"")
    role: Role = "supplier"
    assert not told.is_for(Who(None, role))
    assert not told.is_for(Who(1, role))
