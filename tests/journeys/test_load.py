"""The Locust file, run against a service without a browser for some seconds."""

import json
import subprocess
import sys
from typing import Any

from tests.postgres_places import REPOSITORY

WORKFLOW = {
    ("POST", "/imports"),
    ("GET", "/imports/[id]/citizens"),
    ("PATCH", "/imports/[id]/citizens/[id]"),
    ("GET", "/imports/[id]/citizens/birthdays"),
    ("GET", "/imports/[id]/towns/stat/percentile/age"),
    ("DELETE", "/imports/[id]"),
}


def locust(url: str, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """How Locust ended, and its statistics, one entry for each method and name."""
    command = [sys.executable, "-m", "locust", "--locustfile", "bench/locustfile.py", "--host", url, "--headless"]
    run = subprocess.run(
        [*command, "--stop-timeout", "60", "--json", "--skip-log-setup", *words],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout)


def test_the_whole_workflow_is_played_without_a_failure(service_url: str) -> None:
    status, statistics = locust(
        service_url, "--users", "4", "--spawn-rate", "4", "--run-time", "3s", "--citizens", "40"
    )
    assert {(entry["method"], entry["name"]) for entry in statistics} == WORKFLOW
    assert [entry for entry in statistics if entry["num_failures"]] == []
    asked = {entry["name"]: entry["num_requests"] for entry in statistics}
    assert asked["/imports"] == asked["/imports/[id]"] >= 4
    assert asked["/imports/[id]/citizens/[id]"] > asked["/imports"]
    assert status == 0


def test_a_service_that_fails_is_told(service_url: str) -> None:
    status, statistics = locust(f"{service_url}/nowhere", "--users", "1", "--run-time", "1s")
    assert status == 1
    assert sum(entry["num_failures"] for entry in statistics) > 0
