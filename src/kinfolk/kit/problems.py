"""Answers that say no: every refusal of Kinfolk is one of these.

    Problem
    ├── BadInput 400             what was sent cannot be right
    │   └── InvalidDocument          … with a pointer to every bad place
    ├── Unauthorized 401         who are you?
    ├── Forbidden 403            not you
    ├── NotFound 404             nothing has this name
    ├── MethodNotAllowed 405     this place does not do that
    ├── Conflict 409             somebody was faster
    ├── PreconditionFailed 412   what you saw is no longer so
    ├── TooLarge 413             more than we take
    ├── UnsupportedMediaType 415 a form we do not read
    ├── Unprocessable 422        well-formed, and contradicts what came before
    ├── TooMany 429              too often; `retry_after_seconds` says when again
    ├── BadGateway 502           an outside service answered nonsense
    ├── Unavailable 503          not now; `retry_after_seconds` says when
    └── GatewayTimeout 504       an outside service did not answer

A Problem is an answer; any other exception is an accident (HTTP 500, a job or message tried again).
The first line of the docstring is the `title`, the class name in kebab case the `type`; the facts are keywords.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from msgspec import Struct

MOST_ERRORS_SHOWN = 1_000


class BadPlace(Struct, frozen=True):
    """One bad place of a document."""

    pointer: str
    detail: str


class Problem(Exception):  # noqa: N818  # a Problem is an answer, not an error of ours
    """The request cannot be answered as asked."""

    status: ClassVar[int] = 400
    headers: ClassVar[dict[str, str]] = {}
    retry_after_seconds: int | None = None
    """When it may be asked again; where there is a time for it."""

    def __init__(self, detail: str | None = None, *, retry_after_seconds: int | None = None, **facts: Any) -> None:
        super().__init__(detail or self.title())
        self.detail = detail
        self.facts = facts
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds

    @classmethod
    def kind(cls) -> str:
        """The last part of `type`: `NoSuchImport` is `no-such-import`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or "").strip().partition("\n")[0]

    def body(self) -> dict[str, Any]:
        """The members of the RFC 9457 document."""
        document: dict[str, Any] = {"type": f"/problems/{self.kind()}", "title": self.title(), "status": self.status}
        if self.detail is not None:
            document["detail"] = self.detail
        return document | self.facts

    def answer_headers(self) -> dict[str, str]:
        if self.retry_after_seconds is None:
            return self.headers
        return self.headers | {"retry-after": str(self.retry_after_seconds)}


class BadInput(Problem):
    """The request is malformed."""


class InvalidDocument(BadInput):
    """The document breaks the rules."""

    def __init__(self, errors: Sequence[BadPlace], error_count: int | None = None) -> None:
        """`errors` may be cut; `error_count` is how many bad places there are in all."""
        super().__init__(
            errors=list(errors[:MOST_ERRORS_SHOWN]), error_count=len(errors) if error_count is None else error_count
        )


class Unauthorized(Problem):
    """Who you are is not known."""

    status = 401
    headers: ClassVar[dict[str, str]] = {"www-authenticate": "Bearer"}


class Forbidden(Problem):
    """This is not yours to do."""

    status = 403


class NotFound(Problem):
    """There is nothing here."""

    status = 404


class MethodNotAllowed(Problem):
    """This is not done here."""

    status = 405

    def __init__(self, allow: Sequence[str]) -> None:
        super().__init__(allow=list(allow))

    def answer_headers(self) -> dict[str, str]:
        return {"allow": ", ".join(self.facts["allow"])}


class Conflict(Problem):
    """This contradicts what is already there."""

    status = 409


class PreconditionFailed(Problem):
    """It has changed since you saw it."""

    status = 412


class TooLarge(Problem):
    """This is more than we take."""

    status = 413


class UnsupportedMediaType(Problem):
    """The body comes in a form that this address does not read."""

    status = 415


class Unprocessable(Problem):
    """This contradicts what was sent before."""

    status = 422


class TooMany(Problem):
    """This was asked for too often."""

    status = 429
    retry_after_seconds = 5


class BadGateway(Problem):
    """An outside service answered what cannot be understood."""

    status = 502


class Unavailable(Problem):
    """This is not possible just now."""

    status = 503
    retry_after_seconds = 5


class GatewayTimeout(Problem):
    """An outside service did not answer in time."""

    status = 504


def every_problem(root: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every kind of Problem that has been defined, parents first."""
    yield root
    for kind in root.__subclasses__():
        yield from every_problem(kind)
