"""The service as a socket sees it: what is odd, early, late, too long or cut off."""

import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from tests.modules.citizens.registers import a_citizen
from tests.running import Service
from tests.wire import Wire, chunk, request

from kinfolk.kit.http.protocol import LARGEST_HEAD_BYTES

TOO_LARGE = 70_000_001


@pytest.fixture
def wire(service_url: str) -> Iterator[Wire]:
    with Wire(service_url) as wire:
        yield wire


def line_of(service: Service, request_id: str) -> str:
    """The line of a request in the log, once it is written."""
    return service.says(f" id={request_id} ")


def test_an_error_does_not_end_the_connection(wire: Wire) -> None:
    for path, status in (("/nowhere", 404), ("/health", 200), ("/imports", 405), ("/imports/x/citizens", 404)):
        assert wire.say(request("GET", path)).hear().status == status
    assert wire.say(request("POST", "/imports", body=b"{")).hear().status == 400
    assert wire.say(request("POST", "/imports", body=b'{"citizens":[]}')).hear().status == 201
    assert wire.say(request("GET", "/health")).hear().status == 200


def test_requests_may_come_in_one_go(wire: Wire) -> None:
    paths = ["/health", "/nowhere", "/health"]
    wire.say(b"".join(request("GET", path) for path in paths) + request("POST", "/imports", body=b'{"citizens":[]}'))
    assert [wire.hear().status for _ in range(4)] == [200, 404, 200, 201]


def test_head_has_the_length_of_get(wire: Wire) -> None:
    length = wire.say(request("GET", "/schema/openapi.json")).hear().headers["content-length"]
    reply = wire.say(request("HEAD", "/schema/openapi.json")).hear(is_head=True)
    assert (reply.status, reply.headers["content-length"]) == (200, length)
    assert wire.say(request("HEAD", "/imports", body=b"x")).hear(is_head=True).status == 405
    assert wire.say(request("GET", "/health")).hear().status == 200


def test_http_1_0_is_answered_and_closed(wire: Wire) -> None:
    reply = wire.say("GET /health HTTP/1.0\r\n\r\n").hear()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert wire.is_over()


@pytest.mark.parametrize(
    "words",
    [
        "NONSENSE\r\n\r\n",
        "BREW /pot HTTP/1.1\r\n\r\n",
        "GET /health HTTP/3.7\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nname\0: x\r\n\r\n",
        "POST /imports HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        "POST /imports HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        f"POST /imports HTTP/1.1\r\nContent-Length: {'9' * 100}\r\n\r\n",
        "POST /imports HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /imports HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "CONNECT kinfolk:443 HTTP/1.1\r\n\r\n",
        b"GET /\xd0\xb6 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda words: str(words)[:30],
)
def test_what_is_no_http_is_refused_in_our_form(wire: Wire, words: str | bytes) -> None:
    reply = wire.say(words).hear()
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert reply.problem["type"] in {"/problems/unreadable-request", "/problems/no-such-place"}
    assert wire.is_over()


@pytest.mark.parametrize("path", ["//health", "/health/", "/./health", "*", "/imports//1/citizens", "?x=1"])
def test_odd_addresses_name_nothing(wire: Wire, path: str) -> None:
    method = "OPTIONS" if path == "*" else "GET"
    assert wire.say(request(method, path)).hear().status in {400, 404}


def test_an_absolute_address_is_answered(wire: Wire) -> None:
    assert wire.say(request("GET", "http://kinfolk/health")).hear().status == 200


def test_a_head_may_be_long_but_not_endless(service_url: str) -> None:
    for long in ("x" * 60_000, "x: " + "y" * 60_000):
        head = request("GET", "/health", long) if ": " in long else request("GET", f"/health?{long}")
        with Wire(service_url) as wire:
            assert wire.say(head).hear().status == 200
            assert wire.say(head).hear().status == 200
    for start in (
        "GET /" + "x" * 20_000_000,
        "GET / HTTP/1.1\r\nx: " + "y" * 20_000_000,
        "GET / HTTP/1.1\r\n" + "x: y\r\n" * 3_000_000,
    ):
        with Wire(service_url) as wire:
            reply = wire.say(start).hear()
            assert (reply.status, reply.problem["type"]) == (431, "/problems/head-too-large")
            assert reply.problem["limit_bytes"] == LARGEST_HEAD_BYTES
            assert wire.is_over()


def test_the_end_of_a_chunked_body_is_bounded_like_a_head(wire: Wire) -> None:
    wire.say(request("POST", "/imports", "Transfer-Encoding: chunked") + chunk(b"{}") + b"0\r\n")
    reply = wire.say(b"x: " + b"y" * 2_000_000).hear()
    assert reply.status == 431


def test_a_body_may_come_slowly(wire: Wire, service_url: str) -> None:
    wire.say(request("POST", "/imports", "Content-Length: 15"))
    for byte in b'{"citizens":[]}':
        assert httpx.get(f"{service_url}/health").status_code == 200
        wire.say(bytes([byte]))
        time.sleep(0.02)
    assert wire.hear().status == 201


def test_a_body_may_come_in_chunks(wire: Wire) -> None:
    wire.say(request("POST", "/imports", "Transfer-Encoding: chunked"))
    assert wire.say(chunk(b'{"citi') + chunk(b'zens":[]}') + chunk(b"")).hear().status == 201
    assert wire.say(request("GET", "/health")).hear().status == 200


def test_trailers_are_no_headers(service_url: str) -> None:
    body = json.dumps({"citizens": [a_citizen(1)]}).encode()
    import_id = httpx.post(f"{service_url}/imports", content=body).json()["data"]["import_id"]
    with Wire(service_url) as wire:
        for change in (b'{"relatives":[1]}', b'{"name":"A"}'):
            wire.say(request("PATCH", f"/imports/{import_id}/citizens/1", "Transfer-Encoding: chunked") + chunk(change))
            assert wire.say(b'0\r\nIf-Match: "stale"\r\n\r\n').hear().status == 200
        wire.say(request("PATCH", f"/imports/{import_id}/citizens/1", 'If-Match: "stale"', body=change))
        assert wire.hear().status == 412


LENGTH, CHUNKED = "Content-Length: 15", "Transfer-Encoding: chunked"


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_of_who_would_rather_speak_http_2_is_read(wire: Wire, framing: str, pieces: int) -> None:
    """As Java's client sends its first request, in one go or not."""
    wish = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ]
    head = request("POST", "/imports", *wish, framing)
    body = b'{"citizens":[]}' if framing == LENGTH else chunk(b'{"citizens":[') + chunk(b"]}") + chunk(b"")
    for said in (head + body[:7], body[7:]) if pieces == 2 else (head + body,):
        wire.say(said)
    reply = wire.hear()
    assert (reply.status, reply.headers["connection"]) == (201, "close")
    assert wire.is_over()


def test_what_comes_after_a_wish_for_another_protocol_is_the_next_request(wire: Wire) -> None:
    wish = request("GET", "/health", "Connection: Upgrade", "Upgrade: h2c")
    wire.say(wish + wish + request("POST", "/imports", body=b'{"citizens":[]}'))
    assert [wire.hear().status for _ in range(3)] == [200, 200, 201]
    assert wire.say(wish).hear().status == 200


def test_nonsense_is_refused_in_its_turn(service: Service) -> None:
    """What was asked before it is answered first; what it cuts off is not."""
    register = json.dumps({"citizens": [a_citizen(number) for number in range(500)]}).encode()
    whole, half = request("POST", "/imports", body=register), request("POST", "/imports", "Transfer-Encoding: chunked")
    for said, statuses in (
        (whole + b"nonsense\r\n\r\n", [201, 400]),
        (whole + whole + b"nonsense\r\n\r\n", [201, 201, 400]),
        (whole + half + b"nonsense\r\n", [201, 400]),
        (half + b"nonsense\r\n", [400]),
        (request("PUT", "/imports", body=b"15 bytes of it.") + b"nonsense\r\n", [405, 400]),
    ):
        with Wire(service.url) as wire:
            wire.say(said)
            assert [wire.hear().status for _ in statuses] == statuses
            assert wire.is_over()
    with Wire(service.url) as wire:
        wire.say(request("POST", "/imports", "Content-Encoding: br", "Transfer-Encoding: chunked"))
        assert wire.hear().status == 415
        assert wire.say(b"nonsense\r\n").is_over(), "one answer is enough"
    service.never_said("level=error")


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "example.org"]])
def test_a_request_says_once_whom_it_is_for(wire: Wire, hosts: list[str]) -> None:
    reply = wire.say("\r\n".join(["GET /health HTTP/1.1", *(f"Host: {host}" for host in hosts), "", ""])).hear()
    assert (reply.status, reply.problem["type"]) == (400, "/problems/unclear-host")
    assert wire.say(request("GET", "/health")).hear().status == 200


def test_who_speaks_http_1_0_is_not_told_to_go_on(wire: Wire) -> None:
    wire.say(b"POST /imports HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n")
    assert wire.say(b'{"citizens":[]}').hear().status == 201


def test_whoever_waits_for_leave_is_told_to_go_on(wire: Wire) -> None:
    wire.say(request("POST", "/imports", "Content-Length: 15", "Expect: 100-continue"))
    assert wire.hear().status == 100
    assert wire.say(b'{"citizens":[]}').hear().status == 201


@pytest.mark.parametrize(
    "half", [b"", b'{"citizens":', gzip.compress(b'{"citizens":[]}')[:12]], ids=["none", "plain", "packed"]
)
def test_half_a_body_is_nobodys_accident(service: Service, half: bytes) -> None:
    name = f"half-{len(half)}"
    coding = "gzip" if half.startswith(b"\x1f") else "identity"
    with Wire(service.url) as wire:
        headers = ["Content-Length: 50", f"X-Request-ID: {name}", f"Content-Encoding: {coding}"]
        wire.say(request("POST", "/imports", *headers) + half)
        time.sleep(0.1)
    line = line_of(service, name)
    assert "status=499" in line
    assert "level=info" in line
    service.never_said("Traceback")


@pytest.mark.parametrize("closing", ["Connection: keep-alive", "Connection: close"])
def test_a_refusal_reaches_a_client_that_is_still_sending(service_url: str, closing: str) -> None:
    """Nothing is read before it is sent: the answer stands there when the whole body is out, and is not reset away."""
    body = b"x" * 20_000_000
    for headers, status in ((["Content-Encoding: br"], 415), (["Content-Type: x; charset=latin-1"], 400)):
        with Wire(service_url) as wire:
            reply = wire.say(request("POST", "/imports", closing, *headers, body=body)).hear()
            assert reply.status == status
            if "alive" in closing:
                assert wire.say(request("GET", "/health")).hear().status == 200
            else:
                assert wire.is_over()


def test_a_body_above_the_limit_is_refused_before_it_is_sent(service_url: str) -> None:
    with Wire(service_url) as wire:
        reply = wire.say(request("POST", "/imports", f"Content-Length: {TOO_LARGE}", "Expect: 100-continue")).hear()
        assert (reply.status, reply.problem["limit_bytes"]) == (413, 70_000_000)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_ordinary_clients_hear_that_a_body_is_too_large(service_url: str, is_chunked: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(72):
            yield b" " * 1_000_000

    content: Any = pieces() if is_chunked else b" " * 72_000_000
    answer = httpx.post(f"{service_url}/imports", content=content, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


def test_curl_hears_that_a_body_is_too_large(service_url: str) -> None:
    words = ["curl", "-s", "-w", "%{http_code}", "-H", "Expect:", "--data-binary", "@-", f"{service_url}/imports"]
    said = subprocess.run(words, input=b" " * 72_000_000, capture_output=True, timeout=60, check=True).stdout
    assert said.endswith(b"413")
    assert json.loads(said[:-3])["type"] == "/problems/body-too-large"


def test_a_client_that_never_stops_is_not_listened_to_for_ever(service_url: str) -> None:
    with Wire(service_url, seconds=30) as wire:
        wire.say(request("POST", "/imports", "Transfer-Encoding: chunked", "Content-Encoding: br", "Connection: close"))
        assert wire.hear().status == 415
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            keep_talking(wire, 120)


def test_a_client_that_sends_fast_is_not_listened_to_without_end(service_url: str) -> None:
    piece = chunk(b"x" * 1_000_000)
    sent = 0
    with Wire(service_url) as wire:
        wire.say(request("POST", "/imports", "Transfer-Encoding: chunked", "Content-Encoding: br", "Connection: close"))
        with suppress(ConnectionResetError, BrokenPipeError):
            while sent < 200:
                wire.say(piece)
                sent += 1
    assert sent < 200  # million bytes


def keep_talking(wire: Wire, seconds: float) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        wire.say(chunk(b"x" * 1_000))
        time.sleep(0.05)
