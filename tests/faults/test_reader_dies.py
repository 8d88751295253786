"""The process that reads large documents is killed, and the service ends: nobody waits, nothing stays."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
from tests.running import Service

from kinfolk.modules.citizens.api import GLANCED_AT_BYTES
from kinfolk.modules.citizens.example_register import generate

READER = "kinfolk reader"


def readers(service: Service) -> list[psutil.Process]:
    family = psutil.Process(service.process.pid).children(recursive=True)
    return [process for process in family if READER in " ".join(process.cmdline())]


def test_a_killed_reader_is_replaced_and_none_outlives_the_service(make_database: Any) -> None:
    body = b"".join(generate(10_000, 1)) + b" " * GLANCED_AT_BYTES  # too large to be read in passing
    with Service("up", "--workers", "1", "--pg-url", make_database("reader")) as service:
        assert readers(service) == []  # none before it is needed

        def post(_number: int) -> int:
            return httpx.post(f"{service.url}/imports", content=body, timeout=60).status_code

        assert post(0) == 201
        (first,) = readers(service)
        with ThreadPoolExecutor(8) as clients:
            statuses = clients.map(post, range(8))
            time.sleep(0.05)
            os.kill(first.pid, signal.SIGKILL)
            assert list(statuses) == [201] * 8
        (second,) = readers(service)
        assert second.pid != first.pid
        numbers = {
            httpx.get(f"{service.url}/imports/{number}/citizens/birthdays").status_code for number in range(1, 10)
        }
        assert numbers == {200}
        family = psutil.Process(service.process.pid).children(recursive=True)
        assert service.end() == 0
        assert " level=error " not in service.log
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
