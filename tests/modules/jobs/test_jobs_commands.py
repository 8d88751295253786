"""`kinfolk jobs`, against a running service whose own worker does what is owed."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.running import Service
from tests.scripted_service import Answer, scripted_service

from kinfolk.cli import run
from kinfolk.kit.db import Database
from kinfolk.modules.jobs.jobs import forget_old


@pytest.fixture(scope="module")
def pg_url(make_database: Any) -> str:
    return make_database("commanded")


@pytest.fixture(scope="module")
def service(pg_url: str) -> Iterator[Service]:
    with Service("up", "--pg-url", pg_url) as service:
        yield service


def owed(pg_url: str, **when: Any) -> int:
    async def owe() -> int:
        async with Database(pg_url) as db, db.transaction() as conn:
            return await forget_old.later(conn, **when)

    return asyncio.run(owe())


def said(capsys: pytest.CaptureFixture[str], service_url: str, *words: str) -> tuple[int, str, str]:
    code = run(["jobs", *words, "--api-url", service_url])
    out, err = capsys.readouterr()
    return code, out, err


def test_up_does_what_is_owed_and_the_commands_tell(
    service: Service, pg_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.says("^ready role=work pid=")
    service.says("^ready role=schedule pid=")
    job_id = owed(pg_url)
    end = time.monotonic() + 60
    while (shown := said(capsys, service.url, "show", str(job_id)))[0] == 0 and json.loads(shown[1])[
        "status"
    ] != "done":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert json.loads(shown[1]) | {"created_at": 0, "started_at": 0, "ended_at": 0} == {
        "id": job_id,
        "kind": "jobs.forget",
        "status": "done",
        "progress": None,
        "attempts": 1,
        "result": {"jobs": 0, "ticks": 0},
        "error": None,
        "created_at": 0,
        "started_at": 0,
        "ended_at": 0,
    }
    code, out, _ = said(capsys, service.url, "list", "--status", "done", "--kind", "jobs.forget")
    assert code == 0
    assert out.splitlines()[0].split()[:5] == [str(job_id), "done", "jobs.forget", "attempts", "1"]
    service.says(f"event=job name=jobs.forget job_id={job_id} attempt=1 outcome=done")


def test_one_that_waits_is_cancelled(service: Service, pg_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = owed(pg_url, after=datetime.now(UTC) + timedelta(hours=1))
    code, out, _ = said(capsys, service.url, "cancel", str(job_id))
    assert (code, out.split()[:3]) == (0, [str(job_id), "cancelled", "jobs.forget"])


def test_one_that_there_is_not(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, service.url, "show", "777777")
    assert (code, out) == (1, "")
    assert err == "There is no such job, or it was done long ago. (404)\n"


def test_how_far_it_is_and_what_went_wrong_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    moment = {"created_at": "2026-11-22T12:00:00Z"}
    job = {"id": 7, "kind": "k", "status": "failed", "attempts": 2, "error": "bad\u001b[2J"} | moment
    with scripted_service(Answer(200, json.dumps([job | {"progress": {"done": 3, "total": 10}}]).encode())) as service:
        code, out, _ = said(capsys, service.url, "list")
    assert code == 0
    assert out == "       7  failed     k  attempts 2  2026-11-22 12:00:00  3 of 10  bad\\x1b[2J\n"


def test_another_service_is_not_believed(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service(Answer(200, b"{}")) as service:
        code, _, err = said(capsys, service.url, "list")
    assert code == 1
    assert "is it Kinfolk?" in err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "http://127.0.0.1:1", "list")
    assert code == 3
    assert "no service answers at http://127.0.0.1:1" in err
