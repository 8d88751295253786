"""PostgreSQL as a child process: nothing to install, nothing left behind.

DATA_DIR/postgres            the cluster; its owner runs the server
DATA_DIR/postgres.lock       whoever holds its flock owns the server
DATA_DIR/postgres.json       the address, for who comes second
DATA_DIR/postgres.password   of the role `kinfolk`
DATA_DIR/postgres.log        rotated at the start
DATA_DIR/postgres.socket     unless the path is too long for a socket
DATA_DIR/postgres-18.4       the wheel's programs, where the server's user cannot reach the wheel
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Self
from urllib.parse import quote
from weakref import WeakSet

from kinfolk.kit.postgres_account import Account, CannotStart, last_words, server_account
from kinfolk.kit.postgres_binaries import choose_binaries, reachable_folder
from kinfolk.kit.postgres_cluster import (
    DATABASE,
    ROLE,
    end_leftovers,
    give_password,
    make_cluster,
    pinned_major,
    read_password,
    works_in,
    write_password,
    write_whole,
)

__all__ = ["CannotStart", "EmbeddedPostgres"]

HOST = "127.0.0.1"
PORTS_TRIED = 5
PORT_TAKEN = "could not create any TCP/IP sockets"
MOST_SOCKET_BYTES = 103  # sun_path of macOS; Linux has four more
LOG_LIMIT_BYTES = 10 * 1024 * 1024
PAUSE_SECONDS = 0.01

# What must hold whatever postgresql.conf says: an acknowledged row is on the disk, and no plan waits for a compiler.
ALWAYS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "cluster_name": "kinfolk",
    "listen_addresses": HOST,
    "unix_socket_permissions": "0700",
}


@dataclass(frozen=True)
class Address:
    """Where a server answers. `pid` is 0 when none does, and the rest is where the last one did."""

    pid: int
    port: int
    socket_dir: str


class EmbeddedPostgres:
    """The server of one data directory: started here, or joined where another process has started it.

    Who starts it owns it, and it ends with its owner, even by kill -9 (Linux); who joined then loses the connections,
    and may call `start` again. The kernel ties it to the thread that called `start`: call it from the main thread, or
    one that lives as long. Blocks; not for two threads at once. A forked child has merely joined.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Path | None = None,
        patience_seconds: float = 60,
        grace_seconds: float = 30,
    ) -> None:
        """`binaries` is the folder of PostgreSQL's programs to try first (--pg-bin).

        `patience_seconds` is how long to wait for another process to start or end, `grace_seconds` for our own to end.
        Raises CannotStart.
        """
        try:
            self.data_dir = data_dir.expanduser().resolve()
        except RuntimeError as error:  # a ~ that is nobody's
            raise CannotStart(f"--data-dir {data_dir}: {error}") from error
        self.cluster = self.data_dir / "postgres"
        self.log_path = self.data_dir / "postgres.log"
        self._address_path = self.data_dir / "postgres.json"
        self._password_path = self.data_dir / "postgres.password"
        self._binaries = binaries
        self._patience_seconds = patience_seconds
        self._grace_seconds = grace_seconds
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._address: Address | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this object started the server and will stop it."""
        return self._server is not None

    @property
    def is_running(self) -> bool:
        if self._server is not None:
            return self._server.poll() is None
        return self._address is not None and works_in(self.cluster, self._address.pid)

    @property
    def pid(self) -> int | None:
        return self._address.pid if self._address else None

    @property
    def port(self) -> int | None:
        return self._address.port if self._address else None

    @property
    def socket_dir(self) -> Path | None:
        return Path(self._address.socket_dir) if self._address else None

    def start(self) -> str:
        """Start or join the server and return its `postgresql://` URL; when it runs already, just that.

        Also starts it again after it died. Raises CannotStart.
        """
        try:
            if not self.is_running:
                self._start_or_join()
            assert self._address is not None
            return self._url(self._address)
        except OSError as error:
            raise CannotStart(
                f"PostgreSQL cannot use {self.data_dir}: {error}. Run as the user it belongs to, or choose another"
                " --data-dir."
            ) from error

    def url_if_running(self) -> str | None:
        """The URL of the server that somebody has started; starts none and writes nothing."""
        address = self._last_address()
        return self._url(address) if works_in(self.cluster, address.pid) else None

    def _url(self, address: Address) -> str:
        password = quote(read_password(self._password_path) or "", safe="")
        return f"postgresql://{ROLE}:{password}@{HOST}:{address.port}/{DATABASE}"

    def stop(self) -> None:
        """End the server if this object started it: open transactions are rolled back. Else only let go of it."""
        _OWNERS.discard(self)
        server, self._server = self._server, None
        address, self._address = self._address, None
        if server is not None:
            if address is not None:  # nobody shall join a server that is about to end
                self._remember(Address(0, address.port, ""))
                self._remove_distant_socket(address)
            self._end(server)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_or_join(self) -> None:
        account = server_account(self.cluster, os.geteuid())
        self._open_data_dir(account)
        deadline = time.monotonic() + self._patience_seconds
        while not self._take_lock():
            address = self._last_address()
            if works_in(self.cluster, address.pid):
                self._address = address
                return
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"Another process has held {self.data_dir} for {self._patience_seconds:g} s and its PostgreSQL does"
                    f" not answer. See which, and end it; what went wrong stands in {self.log_path}:\n"
                    f"  fuser -v {self.data_dir / 'postgres.lock'}"
                )
            time.sleep(PAUSE_SECONDS)
        try:
            self._launch(account)
        except BaseException:
            self.stop()
            raise

    def _open_data_dir(self, account: Account) -> None:
        """Make the data directory; a user other than ours may pass it, not read it. Others' directories stay closed."""
        is_other = account.uid != os.geteuid()
        mode = 0o711 if is_other else 0o700
        for directory in reversed([self.data_dir, *self.data_dir.parents]):
            if not directory.exists():
                directory.mkdir(exist_ok=True)
                directory.chmod(mode)
        if is_other and not any(self.data_dir.iterdir()):
            self.data_dir.chmod(mode)
        if is_other and (closed := account.first_closed(self.data_dir)):
            raise CannotStart(
                f"As root, PostgreSQL runs as user {account.name}, and {closed} is closed to it. Open the way with the"
                f" command below, or choose another --data-dir, such as /var/lib/kinfolk:\n"
                f"  chmod o+x {closed}"
            )

    def _take_lock(self) -> bool:
        if self._lock is None:
            lock = os.open(self.data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def _launch(self, account: Account) -> None:
        major = pinned_major(self.cluster)
        binaries = choose_binaries(major, self._binaries)
        folder = reachable_folder(binaries, account, self.data_dir)
        end_leftovers(self.cluster, self._patience_seconds)
        known = read_password(self._password_path)
        password = known or write_password(self._password_path)
        if major is None:
            make_cluster(self.cluster, folder, binaries.major, account, password)
        elif known is None:
            give_password(self.cluster, folder, account, password)
        self._rotate_log()
        last = self._last_address()
        socket_dir = self._make_socket_dir(account, last)
        for port in _ports(last.port):
            pid = self._serve(folder, account, port, socket_dir)
            if pid is not None:
                self._address = Address(pid, port, str(socket_dir))
                self._remember(self._address)
                _OWNERS.add(self)
                return
        raise CannotStart(f"Each of {PORTS_TRIED} free ports was taken by another program before PostgreSQL had it.")

    def _serve(self, folder: Path, account: Account, port: int, socket_dir: Path) -> int | None:
        """Start the server and wait for it; None when the port was taken.

        Without a time limit: recovery after a crash takes what it takes, and killing it starts it anew.
        """
        settings = ALWAYS | {"port": str(port), "unix_socket_directories": str(socket_dir)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.log_path, flags, 0o600), "rb") as log:
            said_before = log.seek(0, os.SEEK_END)
            self._server = account.begin([folder / "postgres", "-D", self.cluster, *options], log)
            while self._server.poll() is None:
                if self._is_ready(self._server.pid):
                    return self._server.pid
                time.sleep(PAUSE_SECONDS)
            self._server = None
            log.seek(said_before)
            said = log.read().decode(errors="replace")
        if PORT_TAKEN in said:
            return None
        raise CannotStart(f"PostgreSQL did not start. The end of {self.log_path}:\n{last_words(said)}")

    def _is_ready(self, pid: int) -> bool:
        """By the server's own pid file, whose form stands in PostgreSQL's `miscadmin.h`; a stale one says ready too."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().split("\n")
            return lines[0] == str(pid) and lines[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        for way in (signal.SIGINT, signal.SIGQUIT):
            server.send_signal(way)
            try:
                server.wait(self._grace_seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        server.kill()
        server.wait()

    def _make_socket_dir(self, account: Account, last: Address) -> Path:
        directory = self.data_dir / "postgres.socket"
        self._remove_distant_socket(last)
        if len(os.fsencode(directory / ".s.PGSQL.65535")) > MOST_SOCKET_BYTES:
            directory = Path(tempfile.mkdtemp(prefix="kinfolk-", dir="/tmp"))  # TMPDIR may be long or closed
        else:
            directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, account.uid, account.gid)
        return directory

    def _remove_distant_socket(self, address: Address) -> None:
        if address.socket_dir and not Path(address.socket_dir).is_relative_to(self.data_dir):
            rmtree(address.socket_dir, ignore_errors=True)

    def _rotate_log(self) -> None:
        with suppress(FileNotFoundError):
            if self.log_path.stat().st_size > LOG_LIMIT_BYTES:
                self.log_path.rename(self.log_path.with_name("postgres.log.1"))

    def _remember(self, address: Address) -> None:
        write_whole(self._address_path, json.dumps(asdict(address)))

    def _last_address(self) -> Address:
        try:
            return Address(**json.loads(self._address_path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Address(0, 0, "")

    def _disown(self) -> None:
        """In a forked child, which would else keep the lock after the owner's death and might stop the server."""
        assert self._server is not None
        assert self._lock is not None
        self._server.returncode = 0  # not our child: neither to be waited for nor warned about
        self._server = None
        os.close(self._lock)
        self._lock = None


def _ports(last: int) -> Iterator[int]:
    """The last server's port first, so that addresses last; then free ones, which may be taken a moment later."""
    if last:
        yield last
    for _ in range(PORTS_TRIED):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        yield port


_OWNERS: WeakSet[EmbeddedPostgres] = WeakSet()


def _disown_all() -> None:
    while _OWNERS:  # a child of the child finds none
        _OWNERS.pop()._disown()


os.register_at_fork(after_in_child=_disown_all)
