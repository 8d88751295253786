"""Which database a command speaks to: the embedded one starts, is mended, and ends with the command."""

import os
import pwd
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from tests.postgres_places import eventually

from kinfolk.kit.database_url import check_redis_url, database_url
from kinfolk.kit.ending import Ended, Missing, WrongSetting
from kinfolk.kit.settings import CacheSettings, DatabaseSettings


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not below pytest's own folder, which each run of pytest closes to PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix="kinfolk-tests-"))
    folder.chmod(0o755)
    yield folder / "kinfolk"
    shutil.rmtree(folder)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill_server(data_dir: Path) -> None:
    pid = int(next(data_dir.rglob("postmaster.pid")).read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_embedded_server_is_started_mended_and_ended(data_dir: Path) -> None:
    with database_url(DatabaseSettings(data_dir=data_dir)) as (url, mend):
        port = urlsplit(url).port
        assert port
        mend()
        kill_server(data_dir)
        assert eventually(lambda: not is_open(port))
        mend()
        assert is_open(port)
        kill_server(data_dir)
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
            with pytest.raises(Ended, match="took its port"):
                mend()
    me = pwd.getpwuid(os.geteuid()).pw_name
    with (
        pytest.raises(WrongSetting, match="could not look after"),
        database_url(DatabaseSettings(data_dir=data_dir), me),
    ):
        pass
    assert not is_open(port)


@pytest.mark.parametrize("url", ["mysql://a", "postgresql:a", "postgresql://h:0/n", "postgresql://[/n"])
def test_what_names_no_database_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(WrongSetting, match="--pg-url must look like"), database_url(DatabaseSettings(pg_url=url)):
        pass
    with database_url(DatabaseSettings(pg_url="postgresql://h/n")) as (same, mend):
        assert (same, mend()) == ("postgresql://h/n", None)


def test_what_names_no_redis_is_refused() -> None:
    with pytest.raises(WrongSetting, match="--redis-url must look like"):
        check_redis_url(CacheSettings(redis_url="http://h"))
    check_redis_url(CacheSettings(redis_url="rediss://h"))
    check_redis_url(CacheSettings())


def test_a_home_that_is_nobodys() -> None:
    settings = DatabaseSettings(data_dir=Path("~nobody-at-all/kinfolk"))
    with pytest.raises(Missing, match="--data-dir ~nobody-at-all/kinfolk: "), database_url(settings):
        pass
