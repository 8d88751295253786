"""Dockerfile and compose, as far as they can be judged without an engine; `make deploy-check` builds and starts."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from tests.postgres_places import REPOSITORY

from kinfolk.kit.settings import PREFIX, every_setting

DOCKERFILE = REPOSITORY / "deploy/docker/Dockerfile"
COMPOSE = sorted((REPOSITORY / "deploy/compose").glob("*.yaml"))
ROLES = {"api", "work", "schedule", "consume", "db"}
MADE_BY_THE_OPERATOR = {"./secrets/kinfolk.toml", "./secrets/postgres-password", "./backups"}


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, file], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_would_say_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp && pip install kinfolk\n")
    assert "DL3007" in hadolint(tmp_path / "Dockerfile").stdout


def test_what_the_image_copies_is_there_and_is_sent_to_the_build() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    for source in " ".join(sources).split():
        assert (REPOSITORY / source).exists(), source
        assert f"!{source}" in ignored, source


def schema_says(schema: str, *files: Path) -> str:
    done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", *map(str, files)])
    return "" if done.exit_code == 0 else done.output[-1_500:]


def test_compose_files_follow_the_specification(tmp_path: Path) -> None:
    assert len(COMPOSE) == 2
    assert schema_says("compose-spec", *COMPOSE) == ""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(COMPOSE[0].read_text().replace("depends_on:", "depend_on:"))
    assert "depend_on" in schema_says("compose-spec", wrong)


@pytest.fixture(params=COMPOSE, ids=lambda path: path.stem)
def project(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())  # which merges `<<`, too


def test_commands_and_settings_are_those_of_kinfolk(project: dict[str, Any]) -> None:
    ours = {name: service for name, service in project["services"].items() if service["image"].startswith("kinfolk:")}
    commands = {service["command"][0] for service in ours.values()}
    assert commands == (ROLES | {"backup"} if project["name"] == "kinfolk" else ROLES)
    for service in ours.values():
        named = {name for name in service["environment"] if name.startswith(PREFIX)}
        assert {name.removeprefix(PREFIX).lower() for name in named} <= set(every_setting())


def test_what_it_mounts_is_there_and_what_it_waits_for_is_told(project: dict[str, Any]) -> None:
    services, volumes = project["services"], set(project["volumes"])
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            is_there = source in volumes | MADE_BY_THE_OPERATOR or (REPOSITORY / "deploy/compose" / source).exists()
            assert is_there, (name, source)
        for other, wanted in service.get("depends_on", {}).items():
            is_told = wanted["condition"] == "service_completed_successfully" or (
                "healthcheck" in services[other] or other == "api"  # the image's own
            )
            assert is_told, (name, other)
    files = {secret["file"] for secret in project.get("secrets", {}).values()}
    assert files <= MADE_BY_THE_OPERATOR


def test_ansible_gives_the_variables_that_compose_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (REPOSITORY / "deploy/compose/server.yaml").read_text()))
    given = (REPOSITORY / "deploy/ansible/roles/kinfolk/templates/env.j2").read_text()
    assert set(re.findall(r"^(\w+)=", given, re.MULTILINE)) == {"COMPOSE_PROFILES", *asked}
    assert asked == {"PLACE", "VERSION"}


def test_nothing_is_published_beyond_this_machine_unless_the_operator_says_so(project: dict[str, Any]) -> None:
    published = [port for service in project["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith(("127.0.0.1:", "${PLACE:-127.0.0.1:")) for port in published)


def test_nginx_is_believed_whom_it_asks_for() -> None:
    server = yaml.safe_load((REPOSITORY / "deploy/compose/server.yaml").read_text())
    [network] = server["networks"]["default"]["ipam"]["config"]
    assert server["services"]["api"]["environment"]["KINFOLK_TRUSTED_PROXIES"] == network["subnet"]


def test_the_upstream_among_containers_is_the_one_of_nginx_but_for_its_address() -> None:
    ours = (REPOSITORY / "deploy/compose/nginx-upstream.conf").read_text().partition("\n")[2]
    theirs = (REPOSITORY / "deploy/nginx/00-kinfolk-upstream.conf").read_text().partition("\n")[2]
    assert ours.replace("api:8080", "127.0.0.1:8080") == theirs


@pytest.mark.parametrize(
    ("schema", "file"),
    [("github-workflows", ".github/workflows/checks.yaml"), ("dependabot", ".github/dependabot.yml")],
)
def test_what_github_reads_follows_its_schemas(schema: str, file: str, tmp_path: Path) -> None:
    assert schema_says(schema, REPOSITORY / file) == ""
    wrong = tmp_path / Path(file).name
    wrong.write_text("permisions: {}\n" + (REPOSITORY / file).read_text())
    assert schema_says(schema, wrong) != ""
