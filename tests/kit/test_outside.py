"""Calls to outside services, against a real one that answers, hangs, lies, breaks off and leads elsewhere."""

import asyncio
import gzip
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct
from prometheus_client import REGISTRY
from tests.outside_service import (
    GOOD,
    LIMIT_BYTES,
    Behaviour,
    Exchange,
    a_clock,
    answer,
    ask,
    drip,
    hang,
    outside_service,
    raw,
    redirect,
)
from tests.scripted_service import free_port

from kinfolk.kit import outside
from kinfolk.kit.calls import LONGEST_PAUSE_SECONDS, Reply
from kinfolk.kit.log import facts
from kinfolk.kit.outside import know
from kinfolk.kit.problems import BadGateway, GatewayTimeout, NotFound


class Hour(Struct):
    hour: int


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    async with outside.connections():
        yield
    know(clock=None)


async def test_an_answer_is_read_in_its_shape() -> None:
    service, reply, told = await ask(answer(GOOD))
    assert isinstance(reply, Reply)
    assert (reply.status, reply.document(Hour)) == (200, Hour(7))
    assert service.paths == ["/now"]
    assert told["clock_attempts"] == 1
    assert told["clock_ms"] > 0
    assert "clock_failure" not in told
    heard = service.heard[0].headers
    assert heard["user-agent"].startswith("kinfolk/")
    assert (heard["accept"], heard["accept-encoding"]) == ("application/json", "identity")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (GOOD, "text/html; charset=utf-8", "text/html is not JSON"),
        (GOOD, "", "no media type is not JSON"),
        (b'{"hour": 7', "application/json", "truncated"),
        (b"", "application/json", "truncated"),
        (b'{"hour": "seven"}', "application/json", "Expected `int`"),
        (b"{}", "application/problem+json", "required field `hour`"),
        (b'"\xff"', "application/json", "Expected `object`"),
        (b"[" * 90_000, "application/json", ""),
    ],
)
async def test_what_is_no_such_document_is_nonsense(body: bytes, content_type: str, reason: str) -> None:
    _, reply, _ = await ask(answer(body, 200, content_type))
    assert isinstance(reply, Reply)
    with facts() as told, pytest.raises(BadGateway) as refused:
        reply.document(Hour)
    assert refused.value.body() == {
        "type": "/problems/bad-gateway",
        "title": "An outside service answered what cannot be understood.",
        "status": 502,
        "service": "clock",
    }
    assert reason in told["clock_failure"]


class NoSuchClock(NotFound):
    """There is no such clock."""


async def test_404_is_nonsense_unless_something_may_be_absent() -> None:
    absent = NoSuchClock()
    _, reply, told = await ask(answer(b"{}", 404), absent=absent)
    assert (reply, told.get("clock_failure")) == (absent, None)
    _, reply, _ = await ask(answer(GOOD), absent=absent)
    assert isinstance(reply, Reply)
    service, error, told = await ask(answer(b"{}", 410), absent=absent)
    assert isinstance(error, BadGateway)
    assert told["clock_failure"] == "status 410"
    service, error, told = await ask(answer(b"{}", 404))
    assert isinstance(error, BadGateway)
    assert told["clock_failure"] == "status 404"
    assert len(service.heard) == 1


BROKEN: dict[str, tuple[Behaviour, type[Exception]]] = {
    "hangs": (hang, GatewayTimeout),
    "drips": (drip, GatewayTimeout),
    "hangs up": (raw(b""), GatewayTimeout),
    "hangs up in the head": (raw(b"HTTP/1.1 200 X\r\ncontent-le"), GatewayTimeout),
    "speaks no HTTP": (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), BadGateway),
    "breaks off": (answer(GOOD, length=1_000), BadGateway),
    "breaks off a chunk": (
        raw(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n20\r\n{"),
        BadGateway,
    ),
    "lies about its length": (raw(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\ncontent-length: 30\r\n\r\n{}"), BadGateway),
    "fails": (answer(b"{}", 500), BadGateway),
    "is busy": (answer(b"{}", 503), BadGateway),
    "leads nowhere": (redirect("http://[/"), BadGateway),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_no_answer_is_504_and_nonsense_is_502(what: str) -> None:
    script, problem = BROKEN[what]
    _, error, told = await ask(script, limit_seconds=0.5 if script in (hang, drip) else 60)
    assert type(error) is problem, (error, told)
    assert error.facts == {"service": "clock"}
    assert told["clock_failure"]


async def test_nobody_there_is_504() -> None:
    know(clock=f"http://127.0.0.1:{free_port()}")
    with facts() as told, pytest.raises(GatewayTimeout):
        await a_clock().get("now")
    assert told["clock_attempts"] == 3


async def test_a_drip_ends_with_the_limit() -> None:
    _, error, told = await ask(drip, limit_seconds=0.5)  # dripped to its end, it would be an answer
    assert isinstance(error, GatewayTimeout)
    assert told["clock_failure"] == "no answer in time"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_service_is_asked_again(status: int) -> None:
    service, reply, told = await ask(answer(b"{}", status), raw(b""), answer(GOOD))
    assert isinstance(reply, Reply)
    assert reply.body == GOOD
    assert told["clock_attempts"] == len(service.heard) == 3


async def test_attempts_have_a_bound() -> None:
    service, error, _ = await ask(answer(b"{}", 503), attempts=2)
    assert isinstance(error, BadGateway)
    assert len(service.heard) == 2


async def test_what_is_not_idempotent_is_not_repeated_once_it_may_have_arrived() -> None:
    for step in (raw(b""), answer(b"{}", 503)):
        service, error, _ = await ask(step, answer(GOOD), method="POST")
        assert isinstance(error, BadGateway | GatewayTimeout)
        assert len(service.heard) == 1
        again, reply, _ = await ask(step, answer(GOOD), method="PUT")
        assert isinstance(reply, Reply)
        assert len(again.heard) == 2


async def test_what_never_arrived_is_repeated_whatever_it_is() -> None:
    know(clock=f"http://127.0.0.1:{free_port()}")
    with facts() as told, pytest.raises(GatewayTimeout):
        await a_clock().send("POST", document=[])
    assert told["clock_attempts"] == 3
    service, reply, _ = await ask(answer(b"{}", 429), answer(GOOD), method="POST")
    assert isinstance(reply, Reply)
    assert len(service.heard) == 2


def said_later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "attempts"),
    [
        (lambda: "0", 2),
        (lambda: said_later(-5), 2),
        (lambda: "soon", 2),
        (lambda: "Sat, 21 Nov 2020 15:04:05 -0000", 2),  # a date that says of no zone
        (lambda: str(int(LONGEST_PAUSE_SECONDS) + 1), 1),
        (lambda: said_later(3_600), 1),
    ],
)
async def test_a_service_is_not_asked_sooner_than_it_says(retry_after: Any, attempts: int) -> None:
    busy = answer(b"{}", 429, "application/json", f"retry-after: {retry_after()}")
    service, reply, _ = await ask(busy, answer(GOOD))
    assert len(service.heard) == attempts
    assert isinstance(reply, Reply if attempts == 2 else BadGateway)


async def test_the_pause_that_it_asks_for_is_kept() -> None:
    begun = time.monotonic()
    await ask(answer(b"{}", 429, "application/json", "retry-after: 1"), answer(GOOD))
    assert time.monotonic() - begun >= 1


async def test_300_megabytes_are_not_held() -> None:
    written = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal written
        await exchange.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
        while written < 300_000_000:
            await exchange.write(b" " * 65_536)
            written += 65_536

    service, error, told = await ask(flood)
    assert isinstance(error, BadGateway)
    assert told["clock_failure"] == f"more than {LIMIT_BYTES} bytes"
    assert len(service.heard) == 1, "what is too large once is too large twice"
    assert written < 30_000_000, "what the sockets between us hold, and no more"


@pytest.mark.parametrize(("size", "is_right"), [(LIMIT_BYTES, True), (LIMIT_BYTES + 1, False)])
async def test_the_limit_is_to_the_byte(size: int, is_right: bool) -> None:
    _, reply, _ = await ask(answer(b" " * size))
    assert isinstance(reply, Reply) is is_right


async def test_a_packed_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 300_000_000, 9)[:LIMIT_BYTES]
    for coding in ("gzip", "br", "zstd"):
        _, error, told = await ask(answer(bomb, 200, "application/json", f"content-encoding: {coding}"))
        assert isinstance(error, BadGateway)
        assert told["clock_failure"].startswith("packed")
    _, reply, _ = await ask(answer(GOOD, 200, "application/json", "content-encoding: identity"))
    assert isinstance(reply, Reply)


async def test_a_document_is_sent_as_json() -> None:
    async with outside_service(answer(b"", 204)) as service:
        know(clock=service.url)
        reply = await a_clock().send("POST", "alarms", document={"hour": 7})
        heard = service.heard[0]
        assert (reply.status, heard.line) == (204, "POST /alarms HTTP/1.1")
        assert (json.loads(heard.body), heard.headers["content-type"]) == ({"hour": 7}, "application/json")


async def test_one_client_keeps_its_connection_and_no_cookies() -> None:
    async with outside_service(answer(GOOD, 200, "application/json", "set-cookie: who=anna")) as service:
        know(clock=service.url)
        clock = a_clock()
        for _ in range(3):
            await clock.get("now")
        assert service.connections == 1
        assert all("cookie" not in exchange.headers for exchange in service.heard)
        async with outside.connections():
            """Ends what is open."""
        await clock.get("now")
        assert service.connections == 2


async def test_hooks_see_each_attempt_and_the_request_id_goes_along() -> None:
    seen: list[object] = []

    async def sign(request: httpx.Request) -> None:
        request.headers["authorization"] = "Bearer of-the-day"
        seen.append(request.url.path)

    async def look(response: httpx.Response) -> None:
        seen.append(response.status_code)

    async with outside_service(answer(b"{}", 503), answer(GOOD)) as service:
        know(clock=service.url)
        with facts("the-id"):
            await a_clock(on_request=[sign], on_response=[look]).get("now")
        assert seen == ["/now", 503, "/now", 200]
        for exchange in service.heard:
            assert exchange.headers["authorization"] == "Bearer of-the-day"
            assert exchange.headers["x-request-id"] == "the-id"
        await a_clock().get("now")
        assert "x-request-id" not in service.heard[-1].headers


async def test_no_variable_says_where_a_call_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    _, reply, _ = await ask(answer(GOOD))
    assert isinstance(reply, Reply)


async def test_calls_are_counted_by_service_and_outcome() -> None:
    def counted(outcome: str) -> float:
        labels = {"service": "clock", "outcome": outcome}
        return REGISTRY.get_sample_value("kinfolk_outside_calls_total", labels) or 0.0

    outcomes = ("answered", "bad-gateway", "gateway-timeout", "broken")
    before = [counted(outcome) for outcome in outcomes]
    await ask(answer(GOOD))
    await ask(answer(b"{}", 500))
    await ask(raw(b""), attempts=1)
    async with outside_service(hang) as service:
        know(clock=service.url)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(a_clock().get("now"), 0.1)
    assert [counted(outcome) - was for outcome, was in zip(outcomes, before, strict=True)] == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that 127.0.0.1 signed itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    made = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=clock", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, "-out", made[0], "-keyout", made[1]], check=True, capture_output=True)
    return made


async def test_certificates_are_verified(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with outside_service(answer(GOOD), tls=tls) as service:
        know(clock=service.url)
        with facts() as told, pytest.raises(BadGateway):
            await a_clock().get("now")
        assert "CERTIFICATE_VERIFY_FAILED" in told["clock_failure"]
        assert told["clock_attempts"] == 1
        assert service.heard == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with outside.connections():
            """Those of the machine are read anew."""
        assert (await a_clock().get("now")).status == 200
