"""What schemathesis makes of the document, with the token of each role: no answer that it lacks."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.auth import Role, Who
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import describe
from kinfolk.kit.tokens import Embedded, new_token
from kinfolk.rules import RULES

MOST_EXAMPLES = 3
NOBODYS = 999_999_999  # whom no request can disable
ROLES: tuple[Role, ...] = get_args(Role)

schema = schemathesis.openapi.from_dict(json.loads(describe(MODULES, RULES)))


@pytest.fixture(scope="module")
def asking_url(make_database: Any) -> str:
    return make_database("made_up")


@pytest.fixture(scope="module")
def asking(asking_url: str) -> Iterator[Service]:
    """A service of its own: an administrator's token changes users."""
    with Service("api", "--auth", "required", "--pg-url", asking_url) as service:
        yield service


@pytest.fixture(scope="module")
def mint(asking_url: str) -> Callable[[Role], str]:
    """Makes a token, as a login does."""

    async def keep(role: Role) -> str:
        token = new_token()
        async with Database(asking_url, size=1) as db, db.transaction() as conn:
            await Embedded(db).keep(conn, token, Who(NOBODYS, role), 600)
        return token

    return lambda role: asyncio.run(keep(role))


@schema.parametrize()
@settings(
    max_examples=MOST_EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
def test_every_answer_is_documented_for_every_role(case: Any, asking: Service, mint: Callable[[Role], str]) -> None:
    for role in ROLES:  # to make a request up takes longer than to send it
        headers = {"Authorization": f"Bearer {mint(role)}"}
        case.call_and_validate(
            base_url=asking.url, headers=headers, excluded_checks=[positive_data_acceptance, ignored_auth]
        )
