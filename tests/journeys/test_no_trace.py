"""Marked values go in everywhere and are looked for everywhere: logs, audit log, metrics and jobs tell of nobody.

And of a citizen who was removed nothing is left. One service with all its roles: two workers, Redis, RabbitMQ.
"""

import asyncio
import gzip
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import asyncpg
import brotli
import httpx
import pytest
import zstandard
from pamqp.commands import Basic
from tests.modules.citizens.registers import a_citizen
from tests.postgres_places import SYSTEM
from tests.rabbit_client import channel_to
from tests.redis_server import RedisServer
from tests.running import Service
from tests.waiting import wait_until

MARK = "kanarienvogel"
HOME = "/api/v1"
PASSWORD = f"{MARK}-password-0"
LARGE = 4_000
"""Citizens in a register that the process beside the workers reads."""
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda packed: zstandard.ZstdDecompressor().decompress(packed),
}


class Watched(NamedTuple):
    """The service, and all that it may leave something in."""

    service: Service
    pg_url: str
    amqp_url: str
    redis: RedisServer
    server_log: Path
    admin: httpx.Client


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, make_database: Any, amqp_url: str, redis_server: RedisServer
) -> Iterator[Watched]:
    config = request.config
    folder = Path(config.workerinput["folder"]) if hasattr(config, "workerinput") else config.servers.folder  # type: ignore[attr-defined]
    pg_url = make_database("no_trace", "system")
    words = ("--auth", "required", "--workers", "2", "--log-level", "debug", "--pg-url", pg_url)
    with redis_server.client as redis:
        redis.flushall()  # what other tests have put there is packed as they like
    with Service("up", *words, "--redis-url", redis_server.url, "--amqp-url", amqp_url) as service:
        password = re.search(r"with the password (\S+)$", service.log, re.MULTILINE)
        assert password, "the first administrator's password is shown once"
        with httpx.Client(base_url=service.url, timeout=60) as client:
            client.headers["authorization"] = f"Bearer {logged_in(client, 'admin', password[1])}"
            yield Watched(service, pg_url, amqp_url, redis_server, folder / "system/postgres.log", client)


def logged_in(client: httpx.Client, name: str, password: str) -> str:
    answer = client.post(f"{HOME}/user/auth", json={"username": name, "password": password})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["access_token"])


def fetched(url: str, query: str, *values: Any) -> list[Any]:
    async def fetch() -> list[Any]:
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetch(query, *values)
        finally:
            await conn.close()

    return asyncio.run(fetch())


def marked_lines(text: str) -> list[str]:
    """The lines that tell of it, short enough to be read."""
    return [line[:300] for line in text.splitlines() if MARK in line.lower()][:3]


def every_request(document: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Each method and address with marked parts, and a body that is nearly right."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for part in (MARK, "1"):
                place = re.sub(r"\{\w+\}", part, path)
                query = {each["name"]: MARK for each in operation.get("parameters", []) if each["in"] == "query"}
                content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
                yield method.upper(), str(httpx.URL(place, params=query)), marked(content.get("example"))


def marked(value: Any) -> Any:
    match value:
        case dict():
            return {name: marked(part) for name, part in value.items()} | {MARK: MARK}
        case list():
            return [marked(part) for part in value]
        case str():
            return MARK
    return value


def send_everything(watched: Watched) -> int:
    """To every route, right and wrong, with each sort of token; how many requests."""
    admin = watched.admin
    document = admin.get("/schema/openapi.json").json()
    headers = {
        "user-agent": MARK,
        "cookie": f"{MARK}={MARK}",
        "referer": f"http://{MARK}/",
        "x-forwarded-for": MARK,
        "if-match": f'"{MARK}"',
        "if-none-match": f'"{MARK}"',
        "idempotency-key": MARK,
        "accept-language": MARK,
        MARK: MARK,
    }
    tokens = {"right": admin.headers["authorization"], "dead": f"Bearer {MARK}", "none": MARK}
    count = 0
    for method, url, body in every_request(document):
        bodies = [json.dumps(body).encode(), MARK.encode(), json.dumps({MARK: [MARK]}).encode()]
        for kind, token in tokens.items():
            if kind == "right" and (method, url.partition("?")[0]) in LOGGING_OUT:
                continue
            for content in bodies if method in {"POST", "PATCH", "PUT"} and kind == "right" else bodies[:1]:
                answer = admin.request(method, url, content=content, headers={**headers, "authorization": token})
                assert answer.status_code < 500 or answer.status_code == 503, (method, url, answer.text)
                count += 1
    for path in (f"/{MARK}", f"/imports/{MARK}/{MARK}", f"/imports/1%2F{MARK}", f"/imports//{MARK}", f"/{MARK}/"):
        assert admin.get(path, params={MARK: MARK}).status_code == 404
    return count + 5


LOGGING_OUT = {("DELETE", f"{HOME}/user/auth"), ("DELETE", f"{HOME}/user/sessions")}


def a_marked_citizen(citizen_id: int, **fields: Any) -> dict[str, Any]:
    names = ("town", "street", "building", "name")
    return a_citizen(citizen_id, **{name: f"{name} {MARK}" for name in names}, **fields)


def test_no_log_tells_of_anybody(watched: Watched) -> None:
    admin = watched.admin
    large = [a_marked_citizen(number) for number in range(1, LARGE)]
    added = admin.post(f"{HOME}/imports", json={"citizens": large}, headers={"idempotency-key": f"{MARK}-2"})
    import_id = added.json()["data"]["import_id"]
    assert MARK in admin.get(f"{HOME}/imports/{import_id}/citizens").text
    for change in ({"name": MARK}, {"street": MARK, "relatives": [2]}):
        assert admin.patch(f"{HOME}/imports/{import_id}/citizens/1", json=change).status_code == 200
    assert admin.post(f"{HOME}/students", json={"name": MARK}).status_code == 201
    user = {"username": MARK, "password": PASSWORD, "role": "analyst"}
    assert admin.post(f"{HOME}/users", json=user).status_code == 201
    token = logged_in(admin, MARK, PASSWORD)
    for current, status in ((f"{PASSWORD}2", 403), (PASSWORD, 200)):
        change = {"current_password": current, "password": f"{PASSWORD}3"}
        changed = admin.patch(f"{HOME}/user/me", json=change, headers={"authorization": f"Bearer {token}"})
        assert changed.status_code == status
    new_token = changed.json()["data"]["access_token"]
    wrong = admin.post(f"{HOME}/user/auth", json={"username": MARK, "password": f"{PASSWORD}1"})
    assert wrong.status_code == 401
    asyncio.run(send_messages(watched.amqp_url))
    wait_until(lambda: len(admin.get(f"{HOME}/messages/parked").json()) == 2)
    first = admin.get(f"{HOME}/messages/parked").json()[0]
    assert MARK in first["body"]
    lane, message_id = first["lane"], quote(first["id"], safe="")
    assert admin.post(f"{HOME}/messages/parked/{lane}/replay").json()["replayed"] == 2
    wait_until(lambda: len(admin.get(f"{HOME}/messages/parked").json()) == 2)
    assert admin.delete(f"{HOME}/messages/parked/{lane}/{message_id}").status_code == 204
    count = send_everything(watched)
    wait_until(lambda: all(job["ended_at"] for job in admin.get(f"{HOME}/jobs").json()))
    deeds = {row[0] for row in fetched(watched.pg_url, "SELECT DISTINCT deed FROM audit")}
    assert deeds >= DEEDS, DEEDS - deeds
    wait_until(lambda: watched.service.log.count("event=request") > count)
    places = {
        "the log": watched.service.log,
        "the server's log": watched.server_log.read_text(errors="replace"),
        "metrics": admin.get("/metrics").text,
        "the audit log": "\n".join(row[0] for row in fetched(watched.pg_url, "SELECT audit::text FROM audit")),
        "jobs": "\n".join(row[0] for row in fetched(watched.pg_url, "SELECT jobs::text FROM jobs")),
    }
    assert {place: marked_lines(text) for place, text in places.items() if marked_lines(text)} == {}
    told = "".join(places.values())
    assert [each in told for each in (token, new_token, admin.headers["authorization"].split()[1])] == [False] * 3
    assert "password=" not in places["the log"]


DEEDS = {
    "login",
    "login.failed",
    "password.refused",
    "user.added",
    "user.changed",
    "import.added",
    "citizen.changed",
    "register.read",
    "messages.replayed",
    "messages.dropped",
}


async def send_messages(amqp_url: str) -> None:
    """Registers that are parked at once, for what is wrong with what is marked."""
    async with channel_to(amqp_url) as channel:
        for number, broken in enumerate([{"gender": MARK}, {MARK: MARK}]):
            body = json.dumps({"citizens": [a_marked_citizen(1) | broken]}).encode()
            marked = Basic.Properties(message_id=f"{MARK} {number}", headers={MARK: MARK}, delivery_mode=2)
            await channel.basic_publish(
                body, exchange="imports.exchange", routing_key="imports.main", properties=marked
            )


def test_nothing_is_left_of_a_citizen_who_was_removed(watched: Watched) -> None:
    admin = watched.admin
    mark = "Wellensittich"
    gone = a_citizen(2, town=mark, street=mark, building=mark, name=mark, relatives=[1])
    body = json.dumps({"citizens": [a_citizen(1, relatives=[2]), gone]}).encode()
    key = {"idempotency-key": "of-the-removed"}
    import_id = admin.post(f"{HOME}/imports", content=body, headers=key).json()["data"]["import_id"]
    place = f"{HOME}/imports/{import_id}/citizens"
    answers = [
        place,
        f"{place}/birthdays",
        f"{HOME}/imports/{import_id}/towns/stat/percentile/age",
        f"{place}/2/export",
    ]

    def ask() -> str:
        """Every answer in every coding, by both workers as chance will have it."""
        told = []
        for path in answers:
            for coding in ("identity", *UNPACK):
                with httpx.Client(base_url=watched.service.url, headers=dict(admin.headers), timeout=60) as client:
                    told.append(client.get(path, headers={"accept-encoding": coding}).text)
        return "".join(told)

    assert mark in ask()
    assert mark in ask()
    wait_until(lambda: any(f":imports/{import_id}/citizens:" in name for name in watched.redis.names()))
    fetched(watched.pg_url, "ANALYZE")
    assert mark in dumped(watched.pg_url)
    assert mark.encode() in shelved(watched.redis)
    assert admin.delete(f"{place}/2").status_code == 204
    assert admin.delete(f"{place}/2").status_code == 404
    wait_until(lambda: mark.encode() not in shelved(watched.redis))
    assert mark not in ask()
    assert admin.post(f"{HOME}/imports", content=body, headers=key).json()["data"]["import_id"] == import_id
    assert mark not in ask(), "nor does a retry bring the citizen back"
    assert mark.encode() not in shelved(watched.redis)
    dump = dumped(watched.pg_url)
    assert mark not in dump
    body_sha256 = fetched(watched.pg_url, "SELECT encode(sha256($1), 'hex')", body)[0][0]
    assert body_sha256 not in dump
    assert fetched(watched.pg_url, "SELECT count(*) FROM ties WHERE import_id = $1", import_id)[0][0] == 0
    samples = fetched(watched.pg_url, "SELECT pg_stats::text FROM pg_stats WHERE tablename = 'citizens'")
    assert samples
    assert mark not in str(samples)
    removed = "SELECT deed, by, citizen_id FROM audit WHERE import_id = $1 AND deed = 'citizen.removed'"
    assert [tuple(row) for row in fetched(watched.pg_url, removed, import_id)] == [("citizen.removed", "user:1", 2)]


def dumped(url: str) -> str:
    """The whole database as text."""
    return subprocess.run([SYSTEM / "pg_dump", url], capture_output=True, check=True).stdout.decode()


def shelved(redis: RedisServer) -> bytes:
    """All that Redis holds, unpacked."""
    found = []
    with redis.client as client:
        for name in client.scan_iter():
            value = client.get(name) if client.type(name) == b"string" else b""
            coding = name.decode().rpartition(":")[2]
            found.append(UNPACK[coding](value[32:]) if coding in UNPACK else value)
    return b"\n".join(found)
