"""Who asks, and who may do what: roles, rules as data, and the face of the stores that keep tokens."""

from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

from kinfolk.kit import problems
from kinfolk.kit.db import Connection
from kinfolk.kit.passwords import Passwords
from kinfolk.kit.proxies import Proxies

Role = Literal["supplier", "analyst", "admin"]
Grant = Literal["no", "own", "all"]

TOKEN_SECONDS = 86_400


class Who(NamedTuple):
    """Somebody who may ask. Without a name: names stay in the table of users, and out of every log."""

    user_id: int | None
    role: Role

    @property
    def by(self) -> str | None:
        """How logs, jobs and the audit log name whom a change goes back to, as `log.Origin` has it."""
        return None if self.user_id is None else f"user:{self.user_id}"


NOBODY = Who(None, "admin")
"""Who asks where nobody is asked who they are (`--auth off`): may do everything."""


class Rule(NamedTuple):
    """What one route grants to each role; `own` shows what is others' as if it did not exist."""

    supplier: Grant = "no"
    analyst: Grant = "no"
    admin: Grant = "all"
    is_open: bool = False
    """Answered to anybody, with or without a token, which is then not looked at."""
    is_open_on_loopback: bool = False
    """Answered to whoever asks from this machine without a proxy between."""

    @property
    def is_for_every_role(self) -> bool:
        return "no" not in (self.supplier, self.analyst, self.admin)


Rules = Mapping[str, Rule]
"""By method and path as the documents write them: `GET /api/v1/students/{student_id}`."""


class NoToken(problems.Unauthorized):
    """This needs a token: log in."""


class DeadToken(problems.Unauthorized):
    """This token is not known, or no longer."""

    headers: ClassVar[dict[str, str]] = {"www-authenticate": 'Bearer error="invalid_token"'}


class NotYours(problems.Forbidden):
    """Your role does not do this."""


class TokensAway(problems.Unavailable):
    """Whether this token is right cannot be found out just now."""


class Tokens(Protocol):
    """Where tokens are kept, by their hash alone, each with the user's number and role, until they expire.

    What one process revokes, all others refuse within a second. Raises TokensAway where the store does not answer.
    Changes belong to the transaction of `conn`, where the store knows transactions.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def keep(self, conn: Connection, token: str, who: Who, seconds: int) -> None:
        """From now on the token stands for somebody, for so long. The user's row is locked meanwhile."""

    async def look_up(self, token: str) -> Who | None:
        """For whom the token stands; None for one that is wrong, expired or revoked."""

    async def revoke(self, conn: Connection, token: str) -> None:
        """Let it stand for nobody, as if it had never been."""

    async def revoke_all(self, conn: Connection, user_id: int) -> None:
        """So with all tokens of a user, after the row of the user was changed in this transaction."""


class Auth:
    """The rules of a product, the tokens that prove who asks, and the passwords that they are given for."""

    def __init__(
        self,
        rules: Rules,
        tokens: Tokens,
        passwords: Passwords | None = None,
        *,
        events: Rules | None = None,
        proxies: Proxies | None = None,
        is_required: bool = True,
    ) -> None:
        """`events` are rules by the name of what is told; `proxies` say who asks. Where it is not required, everybody
        may do everything, and no token is looked at.
        """
        self.rules = rules
        self.events = events or {}
        self.proxies = proxies or Proxies()
        self.tokens = tokens
        self.passwords = passwords or Passwords()
        self.is_required = is_required

    async def admit(self, rule: Rule, token: str | None) -> tuple[Who, Grant]:
        """Who it is, and whether all is theirs to see or what is their own.

        Raises NotYours where the rule grants the role nothing, and what `find` does.
        """
        who = await self.find(token)
        grant: Grant = getattr(rule, who.role)
        if grant == "no":
            raise NotYours
        return who, grant

    async def find(self, token: str | None) -> Who:
        """For whom this token stands. Raises NoToken, DeadToken, TokensAway."""
        if token is None:
            raise NoToken
        who = await self.tokens.look_up(token)
        if who is None:
            raise DeadToken
        return who
