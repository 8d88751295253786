"""deploy/nginx, used: a real nginx before a real service, or before one that says what nginx sent it."""

import json
import re
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest
from tests.deploy.nginx import FILES, Nginx, free_port
from tests.deploy.upstream import Upstream
from tests.listeners import end_of, heard, heard_until, listening, served
from tests.memory_tokens import MemoryTokens
from tests.modules.citizens.registers import a_citizen, add
from tests.postgres_places import eventually
from tests.running import Service

from kinfolk.app import MODULES
from kinfolk.kit.auth import Auth
from kinfolk.kit.db import Database
from kinfolk.kit.http import audience, websocket
from kinfolk.kit.http.application import application
from kinfolk.rules import RULES

SECONDS = 60
PROBLEM = "application/problem+json"
BUFFERED = re.compile(r"\[warn\].*buffered to a temporary file")


@pytest.fixture(scope="module")
def front(service: Service) -> Iterator[Nginx]:
    with Nginx(service.port) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def echo(upstream: Upstream) -> Iterator[Nginx]:
    with Nginx(upstream.port) as nginx:
        yield nginx


def large_register() -> bytes:
    """10,000 citizens whose words are as long as can be, in 63 MB."""
    word = "Ж" * 256
    one = a_citizen(0, town=word, street=word, building=word, name=word)
    return json.dumps({"citizens": [one | {"citizen_id": number} for number in range(10_000)]}).encode()


def test_a_register_of_63_mb_goes_through_and_is_not_written_down_on_the_way(front: Nginx) -> None:
    body = large_register()
    assert 62_000_000 < len(body) < 70_000_000
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=front.url, timeout=SECONDS * 2) as client:
        answer = client.post("/api/v1/imports", content=body, headers=headers)
        assert answer.status_code == 201, answer.text[:300]
        import_id = answer.json()["data"]["import_id"]
        kept = client.get(f"/imports/{import_id}/citizens")
        assert len(kept.json()["data"]) == 10_000
        assert client.delete(f"/imports/{import_id}").status_code == 204
    assert BUFFERED.findall(front.told("error.log")) == []


def test_answers_are_packed_by_kinfolk_and_304_comes_through(front: Nginx) -> None:
    with httpx.Client(base_url=front.url, timeout=SECONDS) as client:
        citizens = [a_citizen(number) for number in range(100)]
        import_id = client.post("/imports", json={"citizens": citizens}).json()["data"]["import_id"]
        whole = client.get(f"/api/v1/imports/{import_id}/citizens", headers={"accept-encoding": "zstd"})
        assert (whole.status_code, whole.headers["content-encoding"]) == (200, "zstd")
        again = client.get(f"/api/v1/imports/{import_id}/citizens", headers={"if-none-match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/docs", "/docs/swagger-ui.css", "/schema/openapi.json"])
def test_pages_are_the_same_in_front_of_nginx_and_behind_it(path: str, front: Nginx, service_url: str) -> None:
    ahead, behind = (httpx.get(url + path, timeout=SECONDS) for url in (front.url, service_url))
    assert (ahead.status_code, ahead.content) == (200, behind.content)
    assert ahead.headers.get("content-security-policy") == behind.headers.get("content-security-policy")


def test_refusals_of_kinfolk_come_through_and_metrics_do_not(front: Nginx) -> None:
    refused = httpx.get(f"{front.url}/api/v1/imports/999999999/citizens", timeout=SECONDS)
    assert (refused.status_code, refused.json()["type"]) == (404, "/problems/no-such-import")
    for path in ("/metrics", "/%6detrics", "//metrics"):
        closed = httpx.get(front.url + path, timeout=SECONDS)
        assert (closed.status_code, closed.headers["content-type"]) == (404, PROBLEM), path
    assert closed.json()["status"] == 404


def test_the_id_of_a_request_is_the_same_everywhere(front: Nginx, service: Service) -> None:
    given = httpx.get(f"{front.url}/health", headers={"x-request-id": "from-the-client.1"}, timeout=SECONDS)
    assert given.headers["x-request-id"] == "from-the-client.1"
    made = httpx.get(f"{front.url}/page/none", headers={"x-request-id": "not one"}, timeout=SECONDS)
    made_id = made.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made_id)
    assert eventually(lambda: f"id={made_id}" in service.log, SECONDS)
    assert eventually(lambda: f"id={made_id}" in front.told("access.log"), SECONDS)


def test_a_client_cannot_say_who_it_is_and_its_query_is_in_no_log(echo: Nginx) -> None:
    said = {
        "x-forwarded-for": "8.8.8.8",
        "x-real-ip": "8.8.8.8",
        "forwarded": "for=8.8.8.8",
        "x-forwarded-proto": "https",
    }
    saw = httpx.get(f"{echo.url}/a%2Fb?token=secret", headers=said, timeout=SECONDS).json()
    assert saw["request"] == "GET /a%2Fb?token=secret HTTP/1.1"
    headers = saw["headers"]
    assert (headers["x-forwarded-for"], headers["x-real-ip"], headers["x-forwarded-proto"]) == (
        "127.0.0.1",
        "127.0.0.1",
        "http",
    )
    assert "forwarded" not in headers
    assert headers["host"] == f"127.0.0.1:{echo.port}"
    assert eventually(lambda: '"GET /a/b HTTP/1.1"' in echo.told("access.log"), SECONDS)
    assert "secret" not in echo.told("access.log")


def connected(nginx: Nginx, head: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", nginx.port), timeout=SECONDS)
    line.sendall(f"{head}\r\nHost: kinfolk\r\n".encode())
    return line


def answer_on(line: socket.socket) -> tuple[HTTPResponse, Any]:
    answer = HTTPResponse(line)
    answer.begin()
    return answer, json.loads(answer.read())


async def test_a_websocket_echoes_and_tells_what_happens(front: Nginx) -> None:
    async with listening(front.place) as ears, httpx.AsyncClient(base_url=front.url, timeout=SECONDS) as client:
        await ears.send(json.dumps({"say": "hello"}))
        assert await heard(ears) == {"echo": "hello"}
        import_id = await add(client, [a_citizen(1)])
        [*_, told] = await heard_until(ears, "import.created", import_id=import_id)
        assert told["when"]


async def test_kinfolks_pings_keep_a_silent_websocket_open(
    db: Database, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than nginx waits, which hangs up one that is not pinged; here Kinfolk pings ten times as often as that."""
    short = {"proxy_read_timeout 120s": "proxy_read_timeout 2s"}
    monkeypatch.setattr(websocket, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(audience, "ROUND_SECONDS", 0.1)
    app = application(MODULES, db, auth=Auth(RULES, MemoryTokens(), is_required=False))
    async with served(app) as place:
        with Nginx(int(place.rpartition(":")[2]), changed=short) as hasty, Nginx(service.port, changed=short) as other:
            async with listening(hasty.place, ping_interval=None) as pinged:
                async with listening(other.place, ping_interval=None) as silent:
                    assert await end_of(silent) == 1006
                await pinged.send(json.dumps({"say": "still here"}))
                assert await heard(pinged) == {"echo": "still here"}


def test_a_body_arrives_while_it_is_sent_and_an_address_sends_two_large_ones_at_a_time(
    echo: Nginx, upstream: Upstream
) -> None:
    size, begun = 50_000_000, 1_000_000
    head = f"Content-Length: {size}\r\n\r\n".encode()
    before = upstream.body_bytes
    with connected(echo, "POST /imports HTTP/1.1") as first, connected(echo, "POST /imports HTTP/1.1") as second:
        for line in (first, second):
            line.sendall(head + b"x" * begun)
        assert eventually(lambda: upstream.body_bytes - before == 2 * begun, SECONDS), upstream.body_bytes - before
        with connected(echo, "POST /imports HTTP/1.1") as third:
            third.sendall(head)
            refused, problem = answer_on(third)
        assert (refused.status, refused.headers["content-type"], problem["status"]) == (429, PROBLEM, 429)
        assert refused.headers["retry-after"]
        small = httpx.post(f"{echo.url}/imports", content=b"x" * 1_000, timeout=SECONDS)
        assert small.status_code == 200
        first.sendall(b"x" * (size - begun))
        assert answer_on(first)[0].status == 200


def test_a_body_beyond_all_bounds_is_refused_in_the_form_of_a_problem(echo: Nginx) -> None:
    with connected(echo, "POST /imports HTTP/1.1") as line:
        line.sendall(b"Content-Length: 80000000\r\n\r\n")
        refused, problem = answer_on(line)
    assert (refused.status, refused.headers["content-type"], problem["status"]) == (413, PROBLEM, 413)


def test_what_is_not_http_is_refused_in_the_form_of_a_problem(echo: Nginx) -> None:
    with connected(echo, "GET / HTTP/1.1") as line:
        line.sendall(b"Host: kinfolk\r\nContent-Length: few\r\n\r\n")
        refused, problem = answer_on(line)
    assert (refused.status, refused.headers["content-type"], problem["status"]) == (400, PROBLEM, 400)


def test_where_kinfolk_is_away_clients_are_told_when_to_come_back() -> None:
    with Nginx(free_port()) as nginx:
        away = httpx.get(f"{nginx.url}/ready", timeout=SECONDS)
    assert (away.status_code, away.headers["content-type"]) == (503, PROBLEM)
    assert away.json() == {"type": "about:blank", "title": "Kinfolk does not answer just now.", "status": 503}
    assert int(away.headers["retry-after"]) > 0
    assert away.headers["x-request-id"]


def a_certificate(nginx: Nginx) -> None:
    """By the command that the file itself gives."""
    comment = re.search(r"^#   (openssl .*\\\n#.*)$", (FILES / "20-kinfolk-tls.conf").read_text(), re.MULTILINE)
    assert comment
    words = shlex.split(comment[1].replace("\\\n#", " ").replace("/etc/nginx", str(nginx.folder)))
    subprocess.run(words, check=True, capture_output=True)


def test_tls_by_a_certificate_of_ones_own(upstream: Upstream) -> None:
    nginx = Nginx(upstream.port, "tls")
    a_certificate(nginx)
    with nginx:
        host = "kinfolk.example.org"
        moved = httpx.get(f"{nginx.url}/imports?x=1", headers={"host": host}, timeout=SECONDS)
        assert (moved.status_code, moved.headers["location"]) == (308, f"https://{host}/imports?x=1")
        trust = ssl.create_default_context(cafile=str(nginx.folder / "kinfolk.crt"))
        with (
            socket.create_connection(("127.0.0.1", nginx.tls_port), timeout=SECONDS) as line,
            trust.wrap_socket(line, server_hostname=host) as packed,
        ):
            packed.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer, saw = answer_on(packed)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert (answer.status, saw["headers"]["x-forwarded-proto"]) == (200, "https")


@pytest.mark.parametrize("server", ["plain", "tls"])
def test_nginx_has_nothing_to_say_of_its_files(server: str) -> None:
    nginx = Nginx(8080, server)
    if server == "tls":
        a_certificate(nginx)
    said = nginx.check()
    assert re.findall(r"\[(warn|error|emerg|alert|crit)\]", said) == [], said
    assert said.endswith("test is successful\n")
