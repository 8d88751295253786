"""A bare Debian in a folder, for what needs a machine of its own: images are built on it, systemd is booted in it."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.postgres_places import REPOSITORY, eventually

CACHE = REPOSITORY / ".cache/deploy"
PACKAGES = "python3-venv,systemd,systemd-sysv,dbus,curl,ca-certificates"
SECONDS_TO_BOOT = 120
CGROUPS = Path("/sys/fs/cgroup")

# Its own mounts, processes, network and groups of processes; only the folder is left of the disk.
INSIDE = """\
set -e
cd {root}
mount --make-rprivate /
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount --bind /dev dev
mount -t sysfs sysfs sys -o ro
mount -t tmpfs tmp tmp -o mode=1777
mount -t tmpfs run run -o mode=755
mount -t cgroup2 cgroup sys/fs/cgroup
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
mount --make-rshared /
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console --show-status=no
"""


def base() -> Path:
    """The folder as an archive, made once."""
    archive = CACHE / "base.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
            words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", codename, f"{folder}/root"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["tar", "-C", f"{folder}/root", "-cf", f"{folder}/base.tar", "."], check=True)
            Path(folder, "base.tar").rename(archive)
    return archive


@contextmanager
def a_root() -> Iterator[Path]:
    archive = base()
    folder = Path(tempfile.mkdtemp(prefix="root-", dir=CACHE))
    folder.chmod(0o755)
    try:
        subprocess.run(["tar", "-C", folder, "-xf", archive], check=True)
        (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")  # as images of Python have it
        yield folder
    finally:
        assert eventually(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists(), SECONDS_TO_BOOT)


def python_of(root: Path) -> str:
    words = ["chroot", root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def wheels(python: str) -> Path:
    """What the lock files of the product and its extras hold, for a machine that asks no index."""
    folder = CACHE / f"wheels-{python}"
    words = ["download", "--quiet", "--require-hashes", "--dest", folder]
    words += ["--only-binary=:all:", "--python-version", python]
    for name in ("requirements.txt", "requirements-extras.txt"):
        # pip reads these marks with the Python at hand, which may be newer than the machine's.
        (CACHE / name).write_text(re.sub(r" ; python_full_version < '[\d.]+'", "", (REPOSITORY / name).read_text()))
        words += ["--requirement", CACHE / name]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    return folder


def kinfolk_wheel(folder: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


class Booted:
    """A machine under a systemd of its own, without a network but its loopback."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._groups = [CGROUPS / kind / f"kinfolk-{os.getpid()}" for kind in ("unified", "systemd", ".")]
        self._groups = [group for group in self._groups if (group.parent / "cgroup.procs").exists()]
        self._init = 0

    def __enter__(self) -> Self:
        script = self._root.with_suffix(".sh")
        script.write_text(INSIDE.format(root=self._root))
        for group in self._groups:
            group.mkdir()
        join = "".join(f"echo $$ >{group}/cgroup.procs; " for group in self._groups)
        unshare = "exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash"
        with (self._root / "console.log").open("wb") as console:
            self._process = subprocess.Popen(
                ["bash", "-c", f"{join}{unshare} {script}"], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        assert eventually(self._is_up, SECONDS_TO_BOOT), (self._root / "console.log").read_text()[-1_000:]
        return self

    def _is_up(self) -> bool:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._init = int(children[0]) if children else 0
        return bool(self._init) and self.does("systemctl", "is-active", "sysinit.target") == "active\n"

    def does(self, *words: str, limit: float = 120) -> str:
        """What a command says there, errors included."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=limit,
        )  # fmt: skip
        return done.stdout

    def __exit__(self, *_error: Any) -> None:
        os.kill(self._init, signal.SIGKILL)
        self._process.wait(SECONDS_TO_BOOT)
        for group in self._groups:
            eventually(lambda group=group: not (group / "cgroup.procs").read_text(), 30)  # type: ignore[misc]
            for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                inner.rmdir()
            group.rmdir()
