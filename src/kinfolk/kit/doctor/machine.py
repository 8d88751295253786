"""What the machine gives: settings, the user, limits, time zones, the data directory, room on the disk."""

import os
import pwd
import resource
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kinfolk.kit.doctor.findings import Findings, Place, look, ok, wrong
from kinfolk.kit.embedded_postgres import CannotStart
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.http.audience import SPARE_FILES
from kinfolk.kit.postgres_binaries import choose_binaries
from kinfolk.kit.postgres_cluster import pinned_major, read_pid, works_in
from kinfolk.kit.proxies import Proxies

FEWEST_FILES = 1_024
LEAST_ROOM_BYTES = 1_000_000_000
LEAST_ROOM_SHARE = 0.1


async def settings(place: Place) -> Findings:
    """Which are set, and whether others can read the file that may hold passwords."""
    set_here = [f"{name} by {origin}" for name, origin in place.origins.items()]
    yield ok(f"settings: {', '.join(set_here) or 'all as they are by default'}")
    try:
        Proxies(place.settings.web.trusted_proxies)
    except WrongSetting as refusal:
        yield wrong(str(refusal), "mend --trusted-proxies")
    config = place.settings.file.config
    if config is not None and config.stat().st_mode & 0o044 and b"://" in config.read_bytes():
        yield look(f"{config} may hold a password and others can read it", f"chmod go-r {config}")


async def user(place: Place) -> Findings:
    name = place.settings.process.user
    if name is None:
        return
    try:
        pwd.getpwnam(name)
    except KeyError:
        yield wrong(f"--user {name}: there is no such user", f"useradd --system {name}")
    else:
        yield ok(f"user {name} is there")


async def file_limit(place: Place) -> Findings:
    """Each connection is an open file; the API takes as many as the system lets it, whatever it begins with."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    sockets = place.settings.web.sockets
    raise_it = "ulimit -Hn 65536, with systemd LimitNOFILE=65536"
    if most == resource.RLIM_INFINITY:
        yield ok("a process may open any number of files")
    elif most < FEWEST_FILES:
        yield wrong(f"a process may open only {most} files", raise_it)
    elif most < sockets + SPARE_FILES:
        yield look(f"a process may open {most} files, which is too few for --sockets {sockets}", raise_it)
    else:
        yield ok(f"a process may open {most} files, and --sockets is {sockets}")


async def zones(_place: Place) -> Findings:
    try:
        ZoneInfo("Europe/Moscow")
    except ZoneInfoNotFoundError:
        yield wrong("there is no time zone data", "apt-get install tzdata")
    else:
        yield ok("time zone data are there")


async def data_dir(place: Place) -> Findings:
    """Whose the embedded server's data are, which PostgreSQL made them, and what a killed one has left."""
    if place.settings.database.pg_url is not None:
        return
    folder = place.settings.database.data_dir.expanduser()
    cluster = folder / "postgres"
    if not folder.exists():
        yield look(f"{folder} is not there yet", "kinfolk up makes it")
        return
    owner, me = folder.stat().st_uid, os.geteuid()
    if owner != me:
        run_as = "run Kinfolk as that user, or name another --data-dir"
        yield (wrong if me else look)(f"{folder} belongs to user {_name_of(owner)}, not to {_name_of(me)}", run_as)
        if me:
            return
    try:
        major = pinned_major(cluster)
        binaries = choose_binaries(major, place.settings.database.pg_bin)
    except CannotStart as refusal:
        yield wrong(f"the embedded PostgreSQL cannot start from {folder}", " ".join(str(refusal).split()))
        return
    pid = read_pid(cluster / "postmaster.pid")
    if pid and not works_in(cluster, pid):
        yield look(f"{cluster / 'postmaster.pid'} names {pid}, which is no server of it", "kinfolk up removes it")
    yield ok(f"{folder} fits PostgreSQL {binaries.version} in {binaries.folder}")


async def disk(place: Place) -> Findings:
    """Room where the embedded server writes; a server of one's own may be anywhere."""
    if place.settings.database.pg_url is not None:
        return
    room = shutil.disk_usage(_nearest(place.settings.database.data_dir.expanduser()))
    said = f"{room.free / 1e9:.1f} GB of {room.total / 1e9:.1f} GB are free for the data"
    if room.free < LEAST_ROOM_BYTES:
        yield wrong(said, "make room: PostgreSQL stops where the disk is full")
    elif room.free < room.total * LEAST_ROOM_SHARE:
        yield look(said, "a million citizens with two ties each take about 300 MB")
    else:
        yield ok(said)


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
