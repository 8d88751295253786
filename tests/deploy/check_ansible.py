"""deploy/ansible under a real systemd, as docs/how-to/run-it-with-ansible.md says; run by `make deploy-check`."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deploy.bare_machine import Booted, a_root, kinfolk_wheel, python_of, wheels
from tests.postgres_places import REPOSITORY

ANSIBLE = REPOSITORY / "deploy/ansible"
SECONDS = 600
ROLES = ["kinfolk-api", "kinfolk-work", "kinfolk-schedule"]
BROUGHT = ["nginx", "postgresql", "postgresql-client", "python3-setuptools"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["ansible-lint", "--offline", "--nocolor", "--profile", "production"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_ansible_lint_at_its_strictest_has_nothing_to_say() -> None:
    done = lint(ANSIBLE)
    assert done.returncode == 0, done.stdout[-2_000:]


def test_it_would_say_something(tmp_path: Path) -> None:
    (tmp_path / "site.yml").write_text("- hosts: all\n  tasks:\n    - shell: echo\n")
    assert lint(tmp_path).returncode != 0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Ansible is in the machine itself, which has no network: packages and wheels lie there already."""
    with a_root() as root:
        found = wheels(python_of(root))
        wheel = kinfolk_wheel(tmp_path_factory.mktemp("dist"))
        for folder, name in ((found, "wheels"), (wheel.parent, "dist"), (REPOSITORY / "deploy", "deploy")):
            subprocess.run(["cp", "-r", folder, root / "root" / name], check=True)
        install = f"""set -e
            export DEBIAN_FRONTEND=noninteractive
            cp /etc/resolv.conf /tmp/resolv.conf 2>/dev/null || true
            apt-get -qq update
            apt-get -qq install --no-install-recommends ansible-core python3-apt >/dev/null
            apt-get -qq install --no-install-recommends --download-only {" ".join(BROUGHT)} >/dev/null"""
        for name in ("sources.list.d", "apt.conf.d", "sources.list"):
            if (Path("/etc/apt") / name).exists():
                subprocess.run(["cp", "-rT", Path("/etc/apt") / name, root / "etc/apt" / name], check=True)
        subprocess.run(["cp", "-L", "/etc/resolv.conf", root / "etc/resolv.conf"], check=True)
        subprocess.run(["cp", "-rT", "/etc/ssl/certs", root / "etc/ssl/certs"], check=True)
        subprocess.run(["chroot", root, "bash", "-c", install], check=True)
        variables = {
            "kinfolk_native_wheel": f"/root/dist/{wheel.name}",
            "kinfolk_native_pip_options": "--no-index --find-links /root/wheels",
            "kinfolk_native_postgres_password": "a 'quoted' /pass%word",
        }
        (root / "root/variables.json").write_text(json.dumps(variables))
        (root / "root/hosts").write_text("[kinfolk_native]\nlocalhost ansible_connection=local\n")
        with Booted(root) as machine:
            yield machine


def played(machine: Booted, *words: str, playbook: str = "site.yml") -> dict[str, int]:
    """What a play says at the end. Nothing may have failed."""
    play = ["ansible-playbook", "-i", "/root/hosts", "-e", "@/root/variables.json", playbook, *words]
    said = machine.does("bash", "-lc", f"cd /root/deploy/ansible && {' '.join(play)}", limit=SECONDS)
    recap = re.search(r"^localhost +: (.*)$", said, re.MULTILINE)
    assert recap, said[-2_000:]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap[1])}
    assert (counts["failed"], counts["unreachable"]) == (0, 0), said[-3_000:]
    return counts


def ask(machine: Booted, path: str) -> str:
    return machine.does("curl", "--silent", f"http://127.0.0.1{path}")


def test_it_is_applied_and_a_second_time_changes_nothing(machine: Booted) -> None:
    assert played(machine)["changed"] > 10
    assert json.loads(ask(machine, "/ready"))["status"] == "ready"
    assert '"problem' in ask(machine, "/metrics") or '"status":404' in ask(machine, "/metrics")
    assert machine.does("systemctl", "is-active", *ROLES).split() == ["active"] * 3
    before = machine.does("systemctl", "show", "--value", "--property=MainPID", *ROLES)
    assert played(machine)["changed"] == 0
    assert machine.does("systemctl", "show", "--value", "--property=MainPID", *ROLES) == before
    assert json.loads(ask(machine, "/ready"))["status"] == "ready"


def test_another_setting_restarts_each_role(machine: Booted) -> None:
    before = machine.does("systemctl", "show", "--value", "--property=MainPID", *ROLES).split()
    changed = played(machine, "-e", """'{"kinfolk_native_settings": {"workers": 1}}'""")
    assert changed["changed"] > 0
    after = machine.does("systemctl", "show", "--value", "--property=MainPID", *ROLES).split()
    assert not set(before) & set(after)
    assert machine.does("grep", "workers", "/etc/kinfolk/kinfolk.toml") == "workers = 1\n"
    assert json.loads(ask(machine, "/ready"))["status"] == "ready"


def test_the_backup_of_the_night_can_be_read(machine: Booted) -> None:
    assert machine.does("systemctl", "is-active", "kinfolk-backup.timer") == "active\n"
    machine.does("systemctl", "start", "kinfolk-backup.service")
    assert machine.does("systemctl", "show", "--value", "--property=Result", "kinfolk-backup.service") == "success\n"
    checked = machine.does("bash", "-c", "/opt/kinfolk/bin/kinfolk backup --check /var/lib/kinfolk-backups/*.dump")
    assert "can be restored: revision " in checked, checked[-500:]


FILES_ALONE = """\
- hosts: kinfolk_native
  tasks:
    - ansible.builtin.include_role: {name: kinfolk, tasks_from: files}
    - ansible.builtin.meta: end_play
"""
"""As far as no engine is needed: what it would start is ended before."""


def test_the_files_for_containers_are_brought_and_a_second_time_changes_nothing(machine: Booted) -> None:
    machine.does("bash", "-c", f"cat >/root/deploy/ansible/files.yml <<'END'\n{FILES_ALONE}END")
    words = ["-e", "kinfolk_postgres_password=\\'a/b\\'", "-e", "kinfolk_version=1.2.3"]
    assert played(machine, *words, playbook="files.yml")["changed"] > 5
    assert played(machine, *words, playbook="files.yml")["changed"] == 0
    folder = "/opt/kinfolk-compose/compose"
    variables = machine.does("grep", "-v", "^#", f"{folder}/.env")
    assert variables == "VERSION=1.2.3\nPLACE=127.0.0.1:8080\nCOMPOSE_PROFILES=\n"
    settings = machine.does("/opt/kinfolk/bin/kinfolk", "settings", "--config", f"{folder}/secrets/kinfolk.toml")
    assert "postgresql://kinfolk:***@postgres:5432/kinfolk" in settings
    verified = machine.does("systemd-analyze", "verify", "kinfolk.service", "kinfolk-backup.timer")
    assert [line for line in verified.splitlines() if "docker" not in line] == []
