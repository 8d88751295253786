"""Work done by a child that ends with it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.running import kinfolk

from kinfolk.kit.ending import Ended, Missing
from kinfolk.kit.errand import run_aside


def not_there() -> None:
    raise Missing("the moon is not there")


def broken() -> None:
    raise ZeroDivisionError


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_it_loads_ends_with_it(tmp_path: Path) -> None:
    def work() -> None:
        sys.modules["a_large_module"] = sys
        (tmp_path / "pid").write_text(str(os.getpid()))

    run_aside(work)
    assert int((tmp_path / "pid").read_text()) != os.getpid()
    assert "a_large_module" not in sys.modules


def test_what_it_returns_comes_back() -> None:
    assert run_aside(lambda: {"large": [1] * 100_000}) == {"large": [1] * 100_000}


def test_what_cannot_come_back_is_told() -> None:
    with pytest.raises(Ended, match="pickle"):
        run_aside(lambda: lambda: None)


@pytest.mark.parametrize(
    ("work", "code", "words"),
    [(not_there, 3, "the moon is not there"), (broken, 1, "ZeroDivisionError"), (killed, 1, "a child ended with -9")],
)
def test_how_it_ended_is_told(work: Callable[[], None], code: int, words: str) -> None:
    with pytest.raises(Ended, match=words) as end:
        run_aside(work)
    assert end.value.exit_code == code


def test_a_role_whose_migrations_fail_ends_as_they_do() -> None:
    done = kinfolk("up", "--api-port", "0", "--pg-url", "postgresql://127.0.0.1:1/nowhere")
    assert done.returncode == 3
    assert done.stderr.startswith("PostgreSQL does not let us in: ")
