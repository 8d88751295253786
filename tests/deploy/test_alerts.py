"""deploy/prometheus and deploy/grafana: judged by promtool, and against what a service counts; and the runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.postgres_places import REPOSITORY, eventually
from tests.rabbit_client import channel_to
from tests.running import Service

PROMETHEUS = REPOSITORY / "deploy/prometheus"
RULES = PROMETHEUS / "kinfolk-alerts.yml"
DASHBOARD = REPOSITORY / "deploy/grafana/kinfolk.json"
RUNBOOK = REPOSITORY / "docs/runbook.md"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
PANELS = json.loads(DASHBOARD.read_text())["panels"]
DRAWN = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
OF_OTHERS = {"up"}
SECONDS = 60


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False)


def test_prometheus_takes_configuration_and_rules() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_each_alert_fires_for_what_it_is_about_and_a_broken_one_does_not(tmp_path: Path) -> None:
    done = promtool("test", "rules", "kinfolk-alerts-test.yml")
    assert done.returncode == 0, done.stdout[-1_000:]
    tests = yaml.safe_load((PROMETHEUS / "kinfolk-alerts-test.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert fired == set(ALERTS)

    shutil.copytree(PROMETHEUS, tmp_path / "broken")
    broken = tmp_path / "broken/kinfolk-alerts.yml"
    broken.write_text(broken.read_text().replace("> 0.01", "> 0.5"))
    done = promtool("test", "rules", tmp_path / "broken/kinfolk-alerts-test.yml")
    assert done.returncode != 0
    assert "KinfolkAccidents" in done.stderr + done.stdout


@pytest.fixture(scope="module")
def pg_url(make_database: Any) -> str:
    return make_database("watched")


@pytest.fixture(scope="module")
async def product(pg_url: str, amqp_url: str) -> AsyncIterator[str]:
    """The address of all roles together, after a request, a job, a message, and a call to an outside service."""
    nowhere = "http://127.0.0.1:9"  # discard: nobody listens there
    words = ("--pg-url", pg_url, "--amqp-url", amqp_url, "--timezone-url", nowhere)
    with Service("up", *words) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client, channel_to(amqp_url) as channel:
            fresh = (await client.get("/metrics")).text
            for outcome in ("done", "failed"):  # so that the first failure is growth
                assert f'kinfolk_job_attempts_total{{name="jobs.forget",outcome="{outcome}"}} 0.0\n' in fresh
            assert 'kinfolk_messages_total{lane="example.main",outcome="parked"} 0.0\n' in fresh
            await client.post("/api/v1/students", json={"name": "Anna"})
            await client.get("/api/v1/timezone", params={"area": "Europe", "city": "Moscow"})
            await channel.basic_publish(b'{"name": "Boris"}', exchange="example.exchange", routing_key="example.main")
        yield service.url


def counted(url: str) -> set[str]:
    """The names of all that is counted there."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert "parsing error" not in check.stderr, check.stderr[-500:]
    return set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))


def names_of(expression: str) -> set[str]:
    """Every metric of an expression: a name before a brace, a bracket, or what ends an operand."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on) \([^)]*\)', " ", expression)
    return {
        word for word in re.findall(r"[a-z_]\w+\b(?!\s*\()", bare) if word.startswith("kinfolk_") or word in OF_OTHERS
    }


async def test_all_that_alerts_and_panels_name_is_counted(product: str) -> None:
    named = {name for expression in [rule["expr"] for rule in ALERTS.values()] + DRAWN for name in names_of(expression)}
    assert named >= {"kinfolk_http_requests_total", "kinfolk_messages_total", "kinfolk_job_seconds_bucket", "up"}
    eventually(lambda: named - OF_OTHERS <= counted(product), SECONDS)
    assert named - OF_OTHERS - counted(product) == set()


def test_every_expression_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(DRAWN)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr[-1_000:]
    file.write_text(file.read_text().replace("sum by", "summ by", 1))
    assert promtool("check", "rules", file).returncode != 0


def test_panels_lie_beside_each_other_and_have_numbers_of_their_own() -> None:
    taken = [
        (x, y)
        for panel in PANELS
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_each_alert_has_its_section_in_the_runbook_with_three_commands() -> None:
    sections = dict(re.findall(r"^## (Kinfolk\w+)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL))
    assert set(sections) == set(ALERTS)
    for name, text in sections.items():
        blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        commands = [line for block in blocks for line in block.splitlines() if not line.startswith(" ")]
        assert len(commands) == 3, name
