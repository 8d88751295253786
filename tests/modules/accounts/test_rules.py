"""The table of rules, walked: every route, every role, what is theirs and what is not, tokens right and wrong."""

from typing import Any, get_args

import httpx
import pytest
from tests.modules.accounts.conftest import Guest, Hire, NewToken
from tests.modules.citizens.registers import a_citizen

from kinfolk.app import MODULES
from kinfolk.kit import log
from kinfolk.kit.auth import Role, Tokens
from kinfolk.kit.db import Database
from kinfolk.kit.http.application import application, every_route, framework
from kinfolk.modules.students.jobs import welcome
from kinfolk.rules import RULES

ROLES: tuple[Role, ...] = get_args(Role)
NOBODYS = 999_999_999
REGISTER = {"citizens": [a_citizen(1)]}

# The contract's sentences, said once more and by hand, so that the table cannot err alone.
FOR_SUPPLIERS = {
    "POST /imports": "all",
    "GET /imports/{import_id}/citizens": "own",
    "GET /imports/{import_id}/citizens/birthdays": "own",
    "GET /imports/{import_id}/towns/stat/percentile/age": "own",
    "GET /jobs": "own",
    "GET /jobs/{id}": "own",
    "DELETE /user/auth": "all",
    "DELETE /user/sessions": "all",
    "GET /user/me": "all",
    "PATCH /user/me": "all",
    "GET /ws": "all",
}
FOR_ANALYSTS = FOR_SUPPLIERS.keys() - {"POST /imports"} | {
    "PATCH /imports/{import_id}/citizens/{citizen_id}",
    "GET /ticks",
    "GET /students",
    "GET /students/{student_id}",
    "GET /timezone",
    "GET /addresses",
    "GET /addresses/{contact_id}",
}
FOR_ANYBODY = {
    "POST /user/auth",
    "GET /",
    "GET /docs",
    "GET /docs/{name}",
    "GET /page/{name}",
    "GET /problems/{kind}",
    "GET /schemas/address-book-v1.json",
    "GET /schema/openapi.json",
    "GET /schema/asyncapi.json",
    "GET /health",
    "GET /ready",
}


def without_face(name: str) -> str:
    return name.replace(" /api/v1.0/", " /").replace(" /api/v1/", " /")


def granted(role: str) -> dict[str, str]:
    found = {without_face(name): getattr(rule, role) for name, rule in RULES.items() if not rule.is_open}
    return {name: grant for name, grant in found.items() if grant != "no"}


def test_the_table_says_what_the_contract_says() -> None:
    assert granted("supplier") == FOR_SUPPLIERS
    assert granted("analyst") == dict.fromkeys(FOR_ANALYSTS, "all")
    assert set(granted("admin").values()) == {"all"}
    assert {without_face(name) for name, rule in RULES.items() if rule.is_open} == FOR_ANYBODY
    assert [name for name, rule in RULES.items() if rule.is_open_on_loopback] == ["GET /metrics"]


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    made = framework(MODULES, Database("postgresql://nowhere"))
    assert every_route(made) == sorted(RULES)


@pytest.fixture
async def supplier(hire: Hire) -> Any:
    return await hire("supplier")


def place(name: str, **numbers: Any) -> tuple[str, str]:
    """A request for a route; what it names does not exist, unless it is given."""
    method, path = name.split()
    known = {"lane": "none", "name": "none", "kind": "no-token", "citizen_id": 1} | numbers
    for part in ("import_id", "id", "student_id", "citizen_id", "lane", "name", "kind"):
        path = path.replace(f"{{{part}}}", str(known.get(part, NOBODYS)))
    return method, f"http://kinfolk{path}"


@pytest.mark.parametrize("name", RULES)
async def test_a_route_asks_who_it_is(name: str, guest: Guest, hire: Hire, new_token: NewToken, tokens: Tokens) -> None:
    rule = RULES[name]
    method, url = place(name)
    expired, revoked = await new_token("admin", seconds=0), await new_token("admin")
    await tokens.revoke(None, revoked)  # type: ignore[arg-type]  # in memory none is needed
    for token in (None, "nonsense", expired, revoked):
        client = guest(token)
        for asked in {method, "HEAD" if method == "GET" else method}:
            answer = await client.request(asked, url)
            assert (answer.status_code == 401) is not rule.is_open, (token, asked, answer.status_code)
            assert ("www-authenticate" in answer.headers) is not rule.is_open
    for role in ROLES:
        status = (await (await hire(role)).client.request(method, url)).status_code
        assert (status == 403) is (not rule.is_open and getattr(rule, role) == "no"), (role, status)
        assert status != 401, role


async def added(client: httpx.AsyncClient, **headers: str) -> int:
    answer = await client.post("/imports", json=REGISTER, headers=headers)
    assert answer.status_code == 201
    number: int = answer.json()["data"]["import_id"]
    return number


OWNED = [name for name, rule in RULES.items() if rule.supplier == "own" and "import_id" in name]


@pytest.mark.parametrize("name", OWNED)
async def test_what_is_others_is_to_a_supplier_as_if_it_were_not(name: str, supplier: Any, hire: Hire) -> None:
    other, analyst = await hire("supplier"), await hire("analyst")
    number = await added(other.client)
    theirs = await other.client.request(*place(name, import_id=number))
    assert theirs.status_code == 200
    seen = {"if-none-match": theirs.headers["etag"]}
    assert (await other.client.request(*place(name, import_id=number), headers=seen)).status_code == 304
    assert (await analyst.client.request(*place(name, import_id=number))).text == theirs.text
    absent = await supplier.client.request(*place(name))
    for headers in ({}, seen, {"if-none-match": "*"}):
        foreign = await supplier.client.request(*place(name, import_id=number), headers=headers)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text == absent.text.replace(str(NOBODYS), str(number))
        told = {*foreign.headers} - {"content-length"}
        assert told == {*absent.headers} - {"content-length"}


async def test_what_was_brought_by_nobody_is_no_suppliers(db: Database, supplier: Any) -> None:
    transport = httpx.ASGITransport(application(MODULES, db))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://kinfolk") as nobody:
        number = await added(nobody)
    assert (await supplier.client.get(f"/imports/{number}/citizens")).status_code == 404


async def test_two_suppliers_with_one_key_do_not_meet(supplier: Any, hire: Hire) -> None:
    other = await hire("supplier")
    headers = {"Idempotency-Key": "the-same"}
    first, second = await added(supplier.client, **headers), await added(other.client, **headers)
    assert first != second
    assert await added(supplier.client, **headers) == first


async def test_a_supplier_sees_the_jobs_it_owes_and_no_others(supplier: Any, hire: Hire, db: Database) -> None:
    other, analyst = await hire("supplier"), await hire("analyst")
    jobs = {}
    for someone in (supplier, other):
        with log.facts("asked", f"user:{someone.user_id}"):
            async with db.transaction() as conn:
                jobs[someone] = await welcome.later(conn, student_id=NOBODYS)
    listed = await supplier.client.get("/jobs?limit=1000")
    assert [job["id"] for job in listed.json()] == [jobs[supplier]]
    assert (await supplier.client.get(f"/jobs/{jobs[supplier]}")).status_code == 200
    foreign = await supplier.client.get(f"/jobs/{jobs[other]}")
    absent = await supplier.client.get(f"/jobs/{NOBODYS}")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.text == absent.text.replace(str(NOBODYS), str(jobs[other]))
    assert (await analyst.client.get(f"/jobs/{jobs[other]}")).status_code == 200


async def test_the_job_that_a_request_owes_is_that_users(hire: Hire, db: Database) -> None:
    admin = await hire("admin")
    name = f"Anna of {admin.username}"
    number = (await admin.client.post("/students", json={"name": name})).json()["result"]["id"]
    async with db.connection() as conn:
        by = await conn.fetchval("SELECT by FROM jobs WHERE arguments->>'student_id' = $1", str(number))
    assert by == f"user:{admin.user_id}"


async def test_a_large_register_is_its_suppliers_too(supplier: Any, hire: Hire) -> None:
    """It goes the long way, through the process beside."""
    other = await hire("supplier")
    large = {"citizens": [a_citizen(number, name="x" * 250) for number in range(1_000)]}
    number = (await supplier.client.post("/imports", json=large)).json()["data"]["import_id"]
    assert (await supplier.client.get(f"/imports/{number}/citizens")).status_code == 200
    assert (await other.client.get(f"/imports/{number}/citizens")).status_code == 404


async def test_metrics_are_for_this_machine_and_admins(app: Any, guest: Guest, hire: Hire) -> None:
    here = guest(address="127.0.0.1")
    assert (await here.get("http://kinfolk/metrics")).status_code == 200
    through_a_proxy = await here.get("http://kinfolk/metrics", headers={"x-forwarded-for": "192.0.2.1"})
    assert through_a_proxy.status_code == 401
    admin, analyst = await hire("admin"), await hire("analyst")
    assert (await admin.client.get("http://kinfolk/metrics")).status_code == 200
    assert (await analyst.client.get("http://kinfolk/metrics")).status_code == 403


async def test_nothing_of_a_body_is_read_before_it_is_known_who_asks(app: Any) -> None:
    async def receive() -> Any:
        raise AssertionError("somebody looked at the body")

    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/imports",
        "raw_path": b"/imports",
        "query_string": b"",
        "headers": [(b"host", b"kinfolk"), (b"content-type", b"application/json")],
        "client": ("192.0.2.1", 1),
        "server": ("kinfolk", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "root_path": "",
    }
    await app(scope, receive, send)
    assert answers[0]["status"] == 401
