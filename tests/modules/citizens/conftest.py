"""The citizens are tried on both PostgreSQL that Kinfolk must run on: its own, and Debian's 15."""

from typing import Any

import pytest

# `client` and `db` anew, for this folder's own pg_url: else whoever comes later could be given its database.
from tests.conftest import SERVERS, client, db  # noqa: F401


@pytest.fixture(scope="session", params=SERVERS)
def pg_url(request: pytest.FixtureRequest, make_database: Any) -> str:
    return make_database("citizens", request.param)
