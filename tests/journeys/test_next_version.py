"""While a fleet is upgraded, processes of this version go on on the tables of the next one, which have more in them."""

from typing import Any

import httpx
from tests.conftest import run_sql
from tests.kit.test_migrate import rows
from tests.modules.citizens.registers import a_family
from tests.modules.contacts.entries import an_entry
from tests.postgres_places import eventually
from tests.running import Service

OURS = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
WELCOMES = "/api/v1/jobs?kind=students.welcome"


def upgrade(url: str) -> None:
    """As a migration that only adds: a column in every table, and a table."""
    tables = [name for (name,) in rows(url, OURS)]
    assert {"citizens", "contacts", "jobs", "pgqueuer", "students", "users"} <= set(tables)
    columns = [f"ALTER TABLE {name} ADD COLUMN of_the_next text DEFAULT 'next'" for name in tables]
    run_sql(url, *columns, "CREATE TABLE pets (n int)", "UPDATE alembic_version SET version_num = '9999'")


def lived_through(client: httpx.Client) -> list[int]:
    """A register and its answers, a correction, a job, a contact; the status of each, and of the job."""
    added = client.post("/api/v1/imports", json={"citizens": a_family(_1=[2], _2=[1], _3=[])})
    register = f"/api/v1/imports/{added.json()['data']['import_id']}"
    student = client.post("/api/v1/students", json={"name": "Anna"})
    assert eventually(lambda: {job["status"] for job in client.get(WELCOMES).json()} == {"done"})
    answers = [
        added,
        client.get(f"{register}/citizens"),
        client.patch(f"{register}/citizens/3", json={"relatives": [1], "town": "Тверь"}),
        client.patch(f"{register}/citizens/3", json={"name": "Анна"}),
        client.get(f"{register}/citizens/birthdays"),
        client.get(f"{register}/towns/stat/percentile/age"),
        client.get(f"{register}/citizens/1/export"),
        client.delete(register),
        student,
        client.post("/api/v1/addresses", json=an_entry("Anna")),
        client.get("/api/v1/addresses"),
    ]
    return [answer.status_code for answer in answers]


def test_what_runs_goes_on_when_the_tables_are_upgraded(make_database: Any) -> None:
    url = make_database("next")
    with Service("up", "--pg-url", url) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        before = lived_through(client)
        assert max(before) < 300, before
        upgrade(url)
        assert lived_through(client) == before
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["migrations"].partition(":")[0]) == (200, "ahead")
    assert rows(url, "SELECT DISTINCT of_the_next FROM students") == [("next",)]
