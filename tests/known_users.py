"""A product that asks who it is: three users, whose tokens are called as their roles."""

from typing import Any

import httpx

from kinfolk.app import MODULES
from kinfolk.kit.auth import Auth, Who
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application
from kinfolk.rules import RULES
from tests.memory_tokens import MemoryTokens

USERS = {"supplier": 1, "analyst": 2, "admin": 3}
ADDRESS = "192.0.2.7"


async def known_client(db: Database, role: str = "admin", **how: Any) -> httpx.AsyncClient:
    """A client of the whole application, in this process, who shows that role's token; close it after use."""
    tokens = MemoryTokens()
    for name, user_id in USERS.items():
        await tokens.keep(None, name, Who(user_id, name), 600)  # type: ignore[arg-type]
    app = application(MODULES, db, auth=Auth(RULES, tokens), **how)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(ADDRESS, 1)),  # type: ignore[arg-type]
        base_url="http://kinfolk",
        headers={"authorization": f"Bearer {role}"},
        timeout=60,
    )
