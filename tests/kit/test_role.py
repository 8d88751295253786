"""A role by itself: ready, watched, ended."""

import socket
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.running import Service, kinfolk


@pytest.mark.parametrize("name", ["work", "schedule"])
def test_it_says_that_it_is_ready_tells_its_metrics_and_ends_when_told(make_database: Any, name: str) -> None:
    with Service(name, "--metrics-port", "0", "--pg-url", make_database("role")) as service:
        (ready,) = service.lines("^ready ")
        words = dict(word.split("=") for word in ready.split()[1:])
        assert (words["role"], int(words["pid"])) == (name, service.process.pid)
        home = f"http://127.0.0.1:{words['metrics_port']}"
        with urllib.request.urlopen(f"{home}/metrics") as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=")
            answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{home}/")
        service.process.terminate()
        assert service.process.wait(60) == 0


def test_a_place_for_metrics_that_is_taken_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = kinfolk("work", "--metrics-port", port, "--pg-url", "postgresql://127.0.0.1/kin")
    assert done.returncode == 3
    assert f"cannot tell metrics at 127.0.0.1 port {port}" in done.stderr
