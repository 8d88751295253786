"""./run, ./test and their tools, driven on a machine that holds only what a test puts there."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bare_machine import Machine
from tests.waiting import wait_until


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def ready(machine: Machine) -> Iterator[Machine]:
    """A machine with Python and every program the tests need."""
    machine.python()
    for path in [
        "/usr/bin/chromium",
        "/usr/bin/curl",
        "/usr/bin/make",
        "/usr/bin/promtool",
        "/usr/bin/redis-server",
        "/usr/bin/systemd-socket-activate",
        "/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server",
        "/usr/lib/x86_64-linux-gnu/libatomic.so.1",
        "/usr/sbin/nginx",
        "/usr/lib/postgresql/15/bin/postgres",
    ]:
        machine.program(path)
    return machine


# --- ./run


def test_first_start_installs_and_becomes_kinfolk(ready: Machine) -> None:
    process = ready.start("run", "api", "--workers", "2", "a b")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, f"pid={process.pid} cwd={ready.root} words=api --workers 2 a b\n")
    assert len(err.splitlines()) == 2, err
    locked, package = ready.asked("pip ")
    assert "--require-hashes" in locked
    assert locked.endswith("/requirements.txt")
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(package.split())


def test_without_words_everything_is_started(ready: Machine) -> None:
    assert ready.run("run")[1].endswith("words=up\n")


def test_second_start_asks_nothing_of_python(ready: Machine) -> None:
    ready.run("run")
    ready.diary.write_text("")
    for name in ready.bin.glob("python*"):
        name.unlink()
    status, out, err = ready.run("run", "db")
    assert (status, out.split()[-1], err) == (7, "words=db", "")
    assert ready.diary.read_text() == ""


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements.txt"])
def test_changed_needs_are_installed_into_the_same_environment(ready: Machine, changed: str) -> None:
    ready.run("run")
    with (ready.checkout / changed).open("a") as file:
        file.write("# changed\n")
    ready.run("run")
    assert len(ready.asked("--require-hashes")) == 2
    assert len(ready.asked("-m venv")) == 1
    ready.run("run")
    assert len(ready.asked("--require-hashes")) == 2


def test_moved_checkout_gets_its_environment_mended(ready: Machine) -> None:
    ready.run("run")
    ready.checkout = ready.checkout.rename(ready.root / "moved")
    assert ready.run("run")[0] == 7
    assert len(ready.asked("--require-hashes")) == 2


def test_what_the_tests_installed_serves_run(ready: Machine) -> None:
    assert ready.run("test", "-k", "kin")[0] == 0
    assert ready.run("run")[0] == 7
    assert [line.rsplit("/", 1)[1] for line in ready.asked("--require-hashes")] == ["requirements-dev.txt"]


def test_killed_install_is_made_anew(ready: Machine) -> None:
    process = ready.start("run", PIP_SECONDS="60")
    wait_until(lambda: ready.asked("--require-hashes"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert ready.run("run")[0] == 7
    assert len(ready.asked("-m venv --clear")) == 2


def test_install_killed_over_a_good_environment_is_made_anew(ready: Machine) -> None:
    ready.run("run")
    (ready.checkout / "pyproject.toml").write_text("# changed\n")
    process = ready.start("run", PIP_SECONDS="60")
    wait_until(lambda: len(ready.asked("--require-hashes")) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert ready.run("run")[0] == 7
    assert len(ready.asked("-m venv --clear")) == 2


def test_interrupted_install_says_nothing_wrong(ready: Machine) -> None:
    process = ready.start("run", PIP_SECONDS="60")
    wait_until(lambda: ready.asked("--require-hashes"))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "could not" not in err


def test_two_first_starts_install_once(ready: Machine) -> None:
    first = ready.start("run", PIP_SECONDS="1")
    wait_until(lambda: ready.asked("--require-hashes"))
    second = ready.run("run")
    assert first.communicate(timeout=60)[1].count("waiting") == 0
    assert (first.returncode, second[0]) == (7, 7)
    assert "waiting for an install" in second[2]
    assert len(ready.asked("--require-hashes")) == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "other files than the lock file names"),
        ("ERROR: No matching distribution found for x", "PIP_INDEX_URL"),
        ("ERROR: something new", "mended, start again"),
    ],
)
def test_failed_install_shows_why_and_what_to_do(ready: Machine, error: str, remedy: str) -> None:
    status, out, err = ready.run("run", PIP_ERROR=f"line one\n{error}")
    assert (status, out) == (1, "")
    assert f"line one\n{error}\nkinfolk: could not install requirements.txt: " in err
    assert remedy in err.splitlines()[-1]
    assert ready.run("run")[0] == 7


def test_checkout_that_cannot_be_written_is_named(ready: Machine) -> None:
    (ready.checkout / ".cache").touch()  # root may write everywhere, but not into a file as if it were a folder
    status, _, err = ready.run("run")
    assert status == 1
    assert err.startswith(f"kinfolk: cannot write in {ready.checkout} ")
    assert len(err.splitlines()) == 1


def test_link_to_run_finds_the_checkout(ready: Machine) -> None:
    (ready.root / "link").symlink_to(ready.checkout / "run")
    ready.checkout = ready.root
    assert ready.run("link", "db")[1].endswith("words=db\n")


# --- which Python


def test_no_python(machine: Machine) -> None:
    assert machine.run("run") == (3, "", "kinfolk: Python 3.11 or newer is needed; found: none\n")


def test_old_python_is_named(machine: Machine) -> None:
    machine.python("python3")
    status, _, err = machine.run("run", PROBE="3.9 0 1")
    assert (status, err) == (
        3,
        f"kinfolk: Python 3.11 or newer is needed; found: {machine.bin}/python3 (3.9)\n",
    )


def test_newest_python_is_taken_and_a_broken_name_passed_over(machine: Machine) -> None:
    for name in ["python3", "python3.12"]:
        machine.python(name)
    machine.command("python3.14", "exit 127")
    assert machine.run("run")[0] == 7
    assert [line.split()[0] for line in machine.asked("-m venv")] == ["python3.12"]


def test_python_that_can_make_an_environment_goes_before_a_newer_one(machine: Machine) -> None:
    machine.command("python3.13", "echo 3.13 1 0")
    machine.python("python3.11")
    assert machine.run("run")[0] == 7


def test_of_two_that_cannot_the_newest_is_to_be_mended(machine: Machine) -> None:
    for version in ["3.12", "3.13"]:
        machine.command(f"python{version}", f"echo {version} 1 0")
    assert "venv module of Python 3.13 " in machine.run("run")[2]


@pytest.mark.parametrize(("version", "status"), [((3, 10, 99), 3), ((3, 11, 0), 1), ((4, 0, 0), 1)])
def test_a_real_python_is_judged_by_its_version(machine: Machine, version: tuple[int, ...], status: int) -> None:
    disguise = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    machine.command("python3", f'[ "$1" = -c ] && exec {sys.executable} -c "{disguise}" "$2"')
    got, _, err = machine.run("run")
    assert got == status
    assert ("could not make" in err, "is needed" in err) == (status == 1, status == 3)


def test_user_without_venv_gets_the_command(machine: Machine) -> None:
    machine.python()
    machine.user(1000)
    machine.command("apt-get", f"echo apt-get >>{machine.diary}")
    status, _, err = machine.run("run", PROBE="3.12 1 0")
    assert status == 3
    assert err.splitlines()[-1] == "  sudo apt-get install python3.12-venv"
    assert machine.asked("apt-get") == []


def test_root_without_venv_installs_it(machine: Machine) -> None:
    machine.python()
    machine.command("apt-get", f'echo "apt-get $*" >>{machine.diary}')
    status, _, err = machine.run("run", PROBE="3.12 1 0")
    assert status == 7, err
    update, install = machine.asked("apt-get")  # its lists are empty
    assert update == "apt-get update"
    assert install.endswith(" python3.12-venv")


def test_root_whose_apt_fails_sees_its_words(machine: Machine) -> None:
    machine.python()
    machine.command("apt-get", "echo E: no mirror; exit 100")
    status, _, err = machine.run("run", PROBE="3.12 1 0")
    assert status == 3
    assert "E: no mirror\n" in err


def test_without_apt_the_missing_module_is_named(machine: Machine) -> None:
    machine.python()
    status, _, err = machine.run("run", PROBE="3.12 1 0")
    assert status == 3
    assert "install the venv module of Python 3.12" in err


# --- ./test


def test_everything_runs_in_order_and_pytest_is_last(ready: Machine) -> None:
    status, out, err = ready.run("test")
    assert status == 0, err
    assert [line.split()[0] for line in ready.asked("")[3:]] == ["ruff", "ruff", "mypy", "lint-imports", "python"]
    headings = [line for line in out.splitlines() if line.startswith("== ") and not line.endswith(" s")]
    assert headings == [
        "== ruff check .",
        "== ruff format --check .",
        "== mypy",
        "== lint-imports --no-logo",
        "== pytest",
    ]
    assert len(re.findall(r"^== \d+ s$", out, re.MULTILINE)) == 4
    assert "--cov-fail-under=100" in ready.asked("-m pytest")[0]


@pytest.mark.parametrize("broken", ["ruff", "mypy", "lint-imports", "python"])
def test_one_failure_fails_it_and_the_rest_still_runs(ready: Machine, broken: str) -> None:
    assert ready.run("test", BROKEN=broken)[0] == 1
    assert [line.split()[0] for line in ready.asked("")[3:]] == ["ruff", "ruff", "mypy", "lint-imports", "python"]


def test_words_go_to_pytest_alone(ready: Machine) -> None:
    assert ready.run("test", "-k", "kin or ties")[0] == 0
    assert ready.asked("")[3:] == ["python -m pytest -k kin or ties"]


def test_ci_is_the_same_command(ready: Machine) -> None:
    assert ready.run(".ci/run", CI="true")[0] == 0
    assert len(ready.asked("-m pytest")) == 1


# --- the programs the tests start

APT_GET = """
[ "$1" != update ] || exit 0
echo "apt-get $*" >>{diary}
cat {root}/usr/sbin/policy-rc.d {root}/etc/postgresql-common/createcluster.d/* >{root}/forbidden
cp {bin}/cat {root}/usr/sbin/nginx
"""


@pytest.fixture
def without_nginx(ready: Machine) -> Machine:
    (ready.root / "usr/sbin/nginx").unlink()
    ready.command("apt-get", APT_GET.format(diary=ready.diary, root=ready.root, bin=ready.bin))
    ready.command("update-rc.d", f'echo "update-rc.d $*" >>{ready.diary}')
    return ready


def test_missing_server_is_installed_and_neither_started_nor_enabled(without_nginx: Machine) -> None:
    status, _, err = without_nginx.run("tools/test-servers")
    assert status == 0, err
    install, disable = without_nginx.diary.read_text().splitlines()
    assert install.endswith(" nginx")
    assert disable == "update-rc.d nginx disable"
    forbidden = (without_nginx.root / "forbidden").read_text()
    assert "exit 101" in forbidden
    assert "create_main_cluster = false" in forbidden
    assert not (without_nginx.root / "usr/sbin/policy-rc.d").exists()
    assert list((without_nginx.root / "etc/postgresql-common/createcluster.d").iterdir()) == []


def test_policy_of_the_machine_is_left_alone(without_nginx: Machine) -> None:
    policy = without_nginx.program("/usr/sbin/policy-rc.d")
    policy.write_text("mine")
    assert without_nginx.run("tools/test-servers")[0] == 0
    assert policy.read_text() == "mine"


def test_user_is_told_what_is_missing_and_nothing_is_skipped(without_nginx: Machine) -> None:
    without_nginx.user(1000)
    status, _, err = without_nginx.run("test")
    assert status == 3
    assert "  sudo apt-get install --no-install-recommends nginx\n" in err
    assert without_nginx.asked("") == []


def test_package_that_brings_something_else_is_no_success(without_nginx: Machine) -> None:
    without_nginx.command("apt-get", "exit 0")
    status, _, err = without_nginx.run("test")
    assert status == 3
    assert "not where the tests look: nginx" in err
