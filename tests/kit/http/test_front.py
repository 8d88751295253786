"""The outermost layer: ids, accidents, methods, addresses, and pages of other sites."""

import json
from typing import Any

import httpx
import pytest
from litestar.exceptions import LitestarException
from tests.kit.http.conftest import PLANTED, SECRET

from kinfolk.app import MODULES
from kinfolk.kit.db import Database
from kinfolk.kit.http import handshake, watching
from kinfolk.kit.http.application import application, framework
from kinfolk.kit.http.front import Front
from kinfolk.kit.http.pages import ROUTES
from kinfolk.kit.metrics import http_metrics

TRACE = "0af7651916cd43dd8448eb211c80319c"
GETS = ["/", "/page/page.css", "/schema/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui.css", "/health"]
GETS += ["/ready", "/problems/not-found"]


@pytest.mark.parametrize("sent", ["a", "A-b_c.9", "x" * 128])
async def test_the_clients_request_id_is_kept(planted: httpx.AsyncClient, lines: list[Any], sent: str) -> None:
    answer = await planted.get("/things/1", headers={"x-request-id": sent, "traceparent": f"00-{TRACE}-{'1' * 16}-01"})
    assert answer.headers["x-request-id"] == sent
    assert lines[-1]["id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, 'a"b', "a\tb", "é".encode()])
async def test_a_bad_request_id_is_replaced(planted: httpx.AsyncClient, lines: list[Any], sent: Any) -> None:
    answer = await planted.get("/things/1", headers={"x-request-id": sent})
    assert len(answer.headers["x-request-id"]) == 16
    assert lines[-1]["id"] == answer.headers["x-request-id"]


async def test_a_trace_gives_the_request_its_id(planted: httpx.AsyncClient) -> None:
    answer = await planted.get("/things/1", headers={"traceparent": f"00-{TRACE}-{'1' * 16}-01"})
    assert answer.headers["x-request-id"] == TRACE
    answer = await planted.get("/things/1", headers={"traceparent": f"00-{TRACE.upper()}-{'1' * 16}-01"})
    assert len(answer.headers["x-request-id"]) == 16


async def test_two_requests_have_two_ids(planted: httpx.AsyncClient) -> None:
    ids = {(await planted.get("/things/1")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_an_accident_leaks_nothing_and_can_be_found(planted: httpx.AsyncClient, lines: list[Any]) -> None:
    answer = await planted.get("/failing", headers={"x-request-id": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/internal-error",
        "title": "Something went wrong on our side.",
        "status": 500,
        "request_id": "find-me",
    }
    assert SECRET not in str(answer.headers)
    (line,) = lines
    assert (line["id"], line["status"], line["levelno"], line["path"]) == ("find-me", 500, 40, "/failing")
    assert str(line["error"]) == SECRET


async def test_an_accident_in_an_operation_is_one_too(
    client: httpx.AsyncClient, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr("kinfolk.modules.citizens.api.add_import", fail)
    answer = await client.post("/imports", json={"citizens": []})
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert SECRET not in answer.text
    assert lines[-1]["id"] == answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_an_accident_in_the_framework_is_answered(lines: list[Any]) -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError(SECRET)

    transport = httpx.ASGITransport(Front(broken, http_metrics()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        answer = await client.get("/things/1")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert SECRET not in answer.text
    assert str(lines[-1]["error"]) == SECRET


async def test_an_accident_after_the_answer_began_is_told_and_cut_off(db: Database, lines: list[Any]) -> None:
    transport = httpx.ASGITransport(application([PLANTED], db))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
        with pytest.raises(LitestarException) as accident:  # the server, which is given it, can only hang up
            await client.get("/failing-late")
    assert str(accident.value.__cause__) == SECRET
    (line,) = lines
    assert (line["status"], line["levelno"], line["error"]) == (200, 40, accident.value)


async def test_every_answer_is_hardened(planted: httpx.AsyncClient) -> None:
    for path in ("/things/1", "/nowhere", "/failing", "/", "/docs"):
        answer = await planted.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_page_of_another_site_changes_nothing(planted: httpx.AsyncClient, method: str) -> None:
    path = "/sums" if method == "POST" else "/things/1"
    body = {"parts": [{"word": "word"}]}
    refused = await planted.request(method, path, json=body, headers={"sec-fetch-site": "cross-site"})
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/cross-site")
    for site in ("same-origin", "same-site", "none"):
        answer = await planted.request(method, path, json=body, headers={"sec-fetch-site": site})
        assert answer.status_code < 300
    assert (await planted.get("/things/1", headers={"sec-fetch-site": "cross-site"})).status_code == 200


async def test_a_page_of_another_site_is_given_no_leave(planted: httpx.AsyncClient) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    answer = await planted.options("/sums", headers=asked)
    assert answer.status_code == 204
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", GETS)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    got = await client.get(path, headers={"x-request-id": "same"})
    headed = await client.head(path, headers={"x-request-id": "same"})
    assert got.status_code == 200
    assert (headed.status_code, headed.content) == (200, b"")
    assert dict(headed.headers) == dict(got.headers)


async def test_head_of_a_citizens_answer_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    added = await client.post("/imports", json={"citizens": []})
    import_id = added.json()["data"]["import_id"]
    for path in ("citizens", "citizens/birthdays", "towns/stat/percentile/age"):
        got = await client.get(f"/imports/{import_id}/{path}", headers={"x-request-id": "same"})
        headed = await client.head(f"/imports/{import_id}/{path}", headers={"x-request-id": "same"})
        assert (headed.status_code, headed.content) == (200, b"")
        assert dict(headed.headers) == dict(got.headers)
    assert (await client.head("/imports/999999999/citizens")).status_code == 404


def every_route() -> list[tuple[str, set[str]]]:
    """Each path that is routed, and the methods it takes."""
    methods: dict[str, set[str]] = {}
    routes = [*((("",), handler) for handler in [*watching.ROUTES, *handshake.ROUTES, *ROUTES])]
    for module in MODULES:
        faces = ["/api/v1", *(["/api/v1.0"] if module.has_v1_0 else [])]
        for handler in module.handlers():
            is_at_root = module.is_at_root and handler.opt["operation"].is_at_root
            routes.append(([*faces, *([""] if is_at_root else [])], handler))
    for prefixes, handler in routes:
        for prefix in prefixes:
            for path in handler.paths:
                place = prefix + path.replace(":str}", "}").replace("{", "").replace("}", "")
                methods.setdefault(place or "/", set()).update(handler.http_methods)
    return sorted(methods.items())


@pytest.mark.parametrize(("path", "methods"), every_route())
async def test_each_route_says_what_it_takes(client: httpx.AsyncClient, path: str, methods: set[str]) -> None:
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - allowed:
        answer = await client.request(method, path)
        assert answer.status_code == 405, method
        assert set(answer.headers["allow"].split(", ")) == allowed
        assert method == "HEAD" or answer.json()["type"] == "/problems/wrong-method"
        assert method == "HEAD" or set(answer.json()["allow"]) == allowed
    options = await client.options(path)
    assert options.status_code == 204
    assert set(options.headers["allow"].split(", ")) == allowed


def test_every_route_is_known_to_the_framework(db: Database) -> None:
    known = {
        route.path.replace(":str}", "}").replace("{", "").replace("}", "") for route in framework(MODULES, db).routes
    }
    assert known == {path for path, _ in every_route()}
    assert len(known) > 15


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/import/1",
        "/imports/1/citizens/",
        "/imports/1/citizens/1/2",
        "/health/",
        "/docs/",
        "/docs/nothing.js",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e",
        "/page/nothing.css",
        "/problems/nonsense",
        "/problems/",
        "/health%2f",
        "/imports%2F1/citizens",
        "/%00",
        "/health%00",
        "/HEALTH",
        "/api/v1",
        "/api/v1/health",
        "/" + "x" * 20_000,
        "/%ff%fe",
        "/imports/1/citizens;x=1",
    ],
    ids=lambda path: path[:24],
)
async def test_other_addresses_name_nothing(client: httpx.AsyncClient, lines: list[Any], path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/no-such-place"
    assert len(lines[-1]["path"]) <= 200
    assert (await client.head(path)).status_code == 404


async def test_a_probe_is_told_quietly_and_a_request_is_not(planted: httpx.AsyncClient, lines: list[Any]) -> None:
    await planted.get("/health")
    await planted.get("/things/1?size=4")
    assert [(line["path"], line["levelno"]) for line in lines] == [("/health", 10), ("/things/1", 20)]
    assert lines[1]["bytes"] == len(json.dumps({"long": "ЖЖЖЖ"}, ensure_ascii=False).encode()) - 1
    assert lines[1]["ms"] > 0


async def test_metrics_know_templates_and_no_made_up_names(planted: httpx.AsyncClient) -> None:
    await planted.get("/things/7777")
    await planted.get("/made-up-path")
    await planted.request("PROPFIND", "/things/1")
    text = (await planted.get("/metrics")).text
    assert 'kinfolk_http_requests_total{method="GET",route="/things/{thing_id}",status="200"}' in text.replace(
        ":str", ""
    )
    assert 'method="other"' in text
    assert "/things/7777" not in text
    assert "made-up" not in text
    assert "PROPFIND" not in text


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:9", True),
        ("127.1.2.3", True),
        ("[::1]:8080", True),
        ("kinfolk.example.org", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org:80", False),
    ],
)
async def test_this_machine_is_not_called_by_another_name(db: Database, host: str, is_served: bool) -> None:
    """A name that somebody made lead to 127.0.0.1 (DNS rebinding) would be of their own site to a browser."""
    for is_local in (True, False):
        transport = httpx.ASGITransport(application([PLANTED], db, is_local=is_local))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as client:
            answer = await client.get("/things/1", headers={"host": host})
        assert answer.status_code == (200 if is_served or not is_local else 403)
