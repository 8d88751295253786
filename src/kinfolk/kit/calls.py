"""One call to an outside service, over httpx: its attempts, its bounds, and what came back."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import perf_counter
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import msgspec
import stamina
from stamina.instrumentation import set_on_retry_hooks

from kinfolk import __version__
from kinfolk.kit import problems, telemetry
from kinfolk.kit.documents import FAULTS, decoded
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.log import note, request_id
from kinfolk.kit.metrics import outside_metrics

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # its command line, which takes up 3.5 MB
import httpx  # noqa: E402

T = TypeVar("T")
OnRequest = Callable[[httpx.Request], Awaitable[None]]
OnResponse = Callable[[httpx.Response], Awaitable[None]]

REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # idempotent: RFC 9110, 9.2.2
BUSY = frozenset({429, 502, 503, 504})
LONGEST_PAUSE_SECONDS = 2.0
MOST_REDIRECTS = 5
MOST_CONNECTIONS = 20
NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

set_on_retry_hooks([])  # its own would log the arguments of a call, which may be personal data


class _Failed(Exception):  # noqa: N818  # not an error yet: the next attempt may do
    """One attempt failed; `again` says whether another may be made, or after how many seconds."""

    def __init__(self, problem: type[problems.Problem], reason: str, again: float | bool = False) -> None:
        super().__init__(reason)
        self.problem = problem
        self.again = again


@dataclass(frozen=True)
class Reply:
    """What a service answered: a status of 2xx, or one that the caller expects."""

    service: str
    status: int
    headers: httpx.Headers
    body: bytes

    def document(self, shape: type[T]) -> T:
        """The body as JSON in a shape; what the shape does not know is passed over. Raises BadGateway."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if media_type != "application/json" and not media_type.endswith("+json"):
                self.refuse(f"{media_type or 'no media type'} is not JSON")
            value: T = decoded(self.body, shape)
        except FAULTS as error:
            self.refuse(str(error))
        return value

    def refuse(self, reason: str) -> NoReturn:
        """What was answered makes no sense to whoever asked: the reason goes to the log. Raises BadGateway."""
        note(**{f"{self.service}_failure": reason})
        raise problems.BadGateway(service=self.service)


class Caller:
    """The one client that a process has of a service."""

    def __init__(
        self,
        service: str,
        *,
        limit_seconds: float,
        limit_bytes: int,
        attempts: int,
        on_request: Sequence[OnRequest],
        on_response: Sequence[OnResponse],
    ) -> None:
        """As `Outside` has it."""
        self._service = service
        self._limit_seconds = limit_seconds
        self._limit_bytes = limit_bytes
        self._attempts = attempts
        trusted = httpx.create_ssl_context(trust_env=False)
        trusted.load_default_certs()  # beside certifi's, those of the machine: a company may have its own
        self._client = httpx.AsyncClient(
            verify=trusted,
            trust_env=False,
            timeout=limit_seconds,
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # one caller's must not go with another's
            headers={
                "user-agent": f"kinfolk/{__version__}",
                "accept": "application/json",
                "accept-encoding": "identity",
            },
            event_hooks={"request": [_say_who_asks, *on_request], "response": [*on_response]},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(
        self,
        method: str,
        address: httpx.URL,
        *path: str,
        query: Mapping[str, str] | None,
        document: Any,
        expects: Sequence[int],
    ) -> Reply:
        """As `Outside.send`."""
        below = "".join(f"/{_quoted(part)}" for part in path)
        request = self._client.build_request(
            method,
            address.copy_with(raw_path=address.raw_path.rstrip(b"/") + below.encode() or b"/"),
            params=query,
            content=None if document is None else msgspec.json.encode(document),
            headers=None if document is None else {"content-type": "application/json"},
        )
        with _Call(self._service) as call:
            async with asyncio.timeout(self._limit_seconds):
                async for attempt in stamina.retry_context(
                    on=_again, attempts=self._attempts, timeout=None, wait_initial=0.1, wait_max=1.0, wait_jitter=0.2
                ):
                    with attempt:
                        call.attempts += 1
                        return await self._attempt(request, expects)
        raise AssertionError("unreachable: an attempt returns or raises")  # pragma: no cover  # for the type checker

    async def _attempt(self, request: httpx.Request, expects: Sequence[int]) -> Reply:
        is_repeatable = request.method in REPEATABLE
        try:
            response = await self._arrived(request)
            try:
                if not response.is_success and response.status_code not in expects:
                    raise _refusal(response, is_repeatable)
                return Reply(self._service, response.status_code, response.headers, await self._body(response))
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise _broken(error, is_repeatable) from error

    async def _arrived(self, request: httpx.Request) -> httpx.Response:
        """The answer without its body; redirects are followed as long as they stay with this service."""
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            following = response.next_request
            if following is None:
                return response
            await response.aclose()
            if request.method not in {"GET", "HEAD"} or _origin(following.url) != _origin(request.url):
                raise _Failed(problems.BadGateway, f"a redirect to {following.url.host}")
            request = following
        raise _Failed(problems.BadGateway, f"more than {MOST_REDIRECTS} redirects")

    async def _body(self, response: httpx.Response) -> bytes:
        """Never holds more than the limit; nothing is unpacked, for we ask for nothing packed."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Failed(problems.BadGateway, "packed, though we do not unpack")
        pieces = []
        left = self._limit_bytes
        async for piece in response.aiter_raw():
            left -= len(piece)
            if left < 0:
                raise _Failed(problems.BadGateway, f"more than {self._limit_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces)


def address_of(name: str, address: str) -> httpx.URL:
    """Where a service is, as a setting says it. Raises WrongSetting."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise WrongSetting(f"--{name}-url must look like https://host/path")  # not quoted: it may hold a password
    return url


async def _say_who_asks(request: httpx.Request) -> None:
    if (number := request_id()) is not None:
        request.headers["x-request-id"] = number
    if (span := telemetry.traceparent()) is not None:
        request.headers["traceparent"] = span


def _quoted(part: str) -> str:
    if part in {"", "."} or ".." in part or "/" in part:
        raise ValueError(f"{part!r} cannot be one part of a path")
    return quote(part, safe="")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _refusal(response: httpx.Response, is_repeatable: bool) -> _Failed:
    """What a status means that is neither right nor expected."""
    status = response.status_code
    again: float | bool = status in BUSY and (is_repeatable or status == 429)
    if again and (asked := _asked_pause_seconds(response)) is not None:
        again = asked if asked <= LONGEST_PAUSE_SECONDS else False  # to come earlier than asked would be rude
    return _Failed(problems.BadGateway, f"status {status}", again)


def _asked_pause_seconds(response: httpx.Response) -> float | None:
    """Retry-After (RFC 9110, 10.2.3), where it can be read."""
    given = response.headers.get("retry-after", "")
    try:
        if given.isdigit():
            return float(given)
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date; or one without a zone
        return None


def _broken(error: httpx.TransportError, is_repeatable: bool) -> _Failed:
    """What it means that a connection was not made, or broke."""
    reason = f"{type(error).__name__}: {error}"
    if "[SSL" in reason:  # a wrong certificate: whoever is there is not the service
        return _Failed(problems.BadGateway, reason)
    is_nonsense = isinstance(error, httpx.RemoteProtocolError) and "without sending a response" not in reason
    problem = problems.BadGateway if is_nonsense else problems.GatewayTimeout
    return _Failed(problem, reason, is_repeatable or isinstance(error, NEVER_CONNECTED))


def _again(error: Exception) -> float | bool:
    return isinstance(error, _Failed) and error.again


class _Call:
    """One call with all its attempts: its facts for the log and the metrics, and what its failure is called."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.attempts = 0

    def __enter__(self) -> "_Call":
        self._begun = perf_counter()
        self._span = telemetry.begin(self.service, "client")
        self._span.__enter__()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        seconds = perf_counter() - self._begun
        facts: dict[str, Any] = {f"{self.service}_ms": seconds * 1_000, f"{self.service}_attempts": self.attempts}
        problem: type[problems.Problem] | None = None
        if isinstance(error, _Failed):
            problem = error.problem
            facts[f"{self.service}_failure"] = str(error)
        elif isinstance(error, TimeoutError):
            problem = problems.GatewayTimeout
            facts[f"{self.service}_failure"] = "no answer in time"
        note(**facts)
        outcome = "broken" if error else "answered"
        if problem is not None:
            outcome = problem.kind()
        outside_metrics().count(self.service, outcome, seconds)
        self._span.__exit__()
        self._span.end({"attempts": self.attempts, "outcome": outcome}, error)
        if problem is not None:
            raise problem(service=self.service) from error
