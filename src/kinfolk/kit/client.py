"""What the commands share that talk to a running service: its address, the token, and refusals in plain words."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from kinfolk import __version__
from kinfolk.kit.ending import FAILED, Ended, Missing, WrongSetting
from kinfolk.kit.problems import BadPlace
from kinfolk.kit.settings import ClientSettings

T = TypeVar("T")

# An import of 10,000 citizens takes a second; on a machine that has much else to do, some more.
TIMEOUT = httpx.Timeout(120, connect=5)


class Refusal(msgspec.Struct, frozen=True):
    """What we read of a problem document (RFC 9457)."""

    title: str
    detail: str = ""
    errors: list[BadPlace] = []
    error_count: int = 0


def connect(api_url: str, token_file: Path | None) -> httpx.Client:
    """A client whose relative paths (`api/v1/…`) are below `api_url`; close it after use.

    Raises WrongSetting for an address that is none and a token that cannot be read.
    """
    headers = {"user-agent": f"kinfolk/{__version__}", "accept": "application/json, application/problem+json"}
    if token_file is not None:
        headers["authorization"] = f"Bearer {read_token(token_file)}"
    # Neither a proxy nor a .netrc of the environment has a say in where the token and the people go.
    return httpx.Client(base_url=checked_url(api_url), headers=headers, timeout=TIMEOUT, trust_env=False)


def checked_url(api_url: str) -> httpx.URL:
    try:
        url = httpx.URL(api_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise WrongSetting(f"{printable(api_url)} is not the address of a service; http://127.0.0.1:8080 would be one")
    return url


def read_token(token_file: Path) -> str:
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise WrongSetting(f"{token_file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise WrongSetting(f"{token_file} holds no token")
    return token


def nobody_there(client: httpx.Client) -> Missing:
    """How a command ends when nothing listens at the address."""
    return Missing(
        f"no service answers at {place(client)}\n"
        "start one with `./run` (or `kinfolk up`), or name another with --api-url",
    )


def place(client: httpx.Client) -> str:
    """The address of the service, without a password that may stand in it."""
    return str(client.base_url.copy_with(userinfo=b"")).rstrip("/")


def refused(answer: httpx.Response) -> Ended:
    """How a command ends that was answered no: title, detail, and every bad place that the answer names."""
    try:
        refusal = msgspec.json.decode(answer.content, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        origin = f"{answer.url.scheme}://{answer.url.netloc.decode()}"
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        return Ended(FAILED, f"{origin} answered {status}, and not as Kinfolk does; is it Kinfolk?")
    lines = [f"{refusal.title} ({answer.status_code})", refusal.detail]
    lines += [f"  {bad.pointer or '(the whole document)'}: {bad.detail}" for bad in refusal.errors]
    if (left := refusal.error_count - len(refusal.errors)) > 0:
        lines.append(f"  and {left} more")
    return Ended(FAILED, "\n".join(printable(line) for line in lines if line))


def asked(
    method: str, path: str, client: ClientSettings, query: Mapping[str, str | int] | None = None
) -> httpx.Response:
    """What the service that the settings name answers. Raises Ended where it refuses, Missing where none is."""
    with connect(client.api_url, client.token_file) as service:
        try:
            answer = service.request(method, path, params=query)
        except httpx.TransportError:
            raise nobody_there(service) from None
    if not answer.is_success:
        raise refused(answer)
    return answer


def read_answer(answer: httpx.Response, shape: type[T]) -> T:
    """Raises Ended where it was not Kinfolk who answered."""
    try:
        return msgspec.json.decode(answer.content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise refused(answer) from None


def printable(text: str) -> str:
    """The text as a terminal may see it: names in a register must not move its cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
