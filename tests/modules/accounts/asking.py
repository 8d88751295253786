"""A service that asks who it is, as the tests of several files speak to it."""

from pathlib import Path
from typing import Any

import httpx
from tests.postgres_places import eventually
from tests.running import Service

from kinfolk.cli import run

SECRET = "a secret nobody guesses"
LOCAL: Any = {"trust_env": False, "timeout": 60}


class Asking:
    """A service that asks, its users and the commands beside it."""

    def __init__(self, service: Service, words: tuple[str, ...], secret: Path) -> None:
        self.service = service
        self.words = words
        self._secret = secret

    def add(self, name: str, role: str) -> str:
        """`kinfolk user add`, and the login of the user: a token."""
        assert run(["user", "add", name, "--role", role, "--password-file", str(self._secret), *self.words]) == 0
        return self.token(name)

    def log_in(self, name: str, password: str = SECRET) -> httpx.Response:
        body = {"username": name, "password": password}
        return httpx.post(f"{self.service.url}/api/v1.0/user/auth", json=body, **LOCAL)

    def token(self, name: str, password: str = SECRET) -> str:
        answer = self.log_in(name, password)
        assert answer.status_code == 200, answer.text[:300]
        token: str = answer.json()["data"]["access_token"]
        return token

    def shown(self, token: str, path: str = "/api/v1/user/me", method: str = "GET") -> int:
        """The status of a request on a connection of its own, which either worker may take."""
        headers = {"authorization": f"Bearer {token}"}
        return httpx.request(method, self.service.url + path, headers=headers, **LOCAL).status_code

    def until_all_answer(self, status: int, token: str) -> None:
        """Every worker: many connections, one status."""
        assert eventually(lambda: {self.shown(token) for _ in range(12)} == {status})
