"""A role by itself: ready, watched, ended."""

import re
import socket
import urllib.error
import urllib.request
from functools import partial
from typing import Any

import pytest
from tests.conftest import run_sql
from tests.noting_product import NOTES
from tests.postgres_places import eventually
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


def counted(service: Service, sample: str) -> float:
    """What the port of a role tells of this sample."""
    found = re.search(r"^ready .*metrics_port=(\d+)", service.log, re.MULTILINE)
    assert found
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample)


def test_ticks_jobs_and_messages_are_counted_at_the_port(make_database: Any, amqp_url: str) -> None:
    """Each where it is done: three roles of one product, whose clock owes a job that sends a message."""
    url = make_database("counted")
    run_sql(url, NOTES)
    words = ("--pg-url", url, "--metrics-port", "0")
    with (
        Service("consume", *words, "--amqp-url", amqp_url, program="tests.noting_product") as consume,
        Service("work", *words, "--amqp-url", amqp_url, program="tests.noting_product") as work,
        Service("schedule", *words, program="tests.noting_product") as schedule,
    ):
        for role, sample in [
            (schedule, 'kinfolk_ticks_total{name="notes.tick"}'),
            (work, 'kinfolk_job_attempts_total{name="notes.tick",outcome="done"}'),
            (work, 'kinfolk_job_seconds_count{name="notes.tick"}'),
            (consume, 'kinfolk_messages_total{lane="notes.main",outcome="done"}'),
            (consume, 'kinfolk_message_seconds_count{lane="notes.main"}'),
        ]:
            assert eventually(partial(counted, role, sample)), sample


def test_a_place_for_metrics_that_is_taken_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = kinfolk("work", "--metrics-port", port, "--pg-url", "postgresql://127.0.0.1/kin")
    assert done.returncode == 3
    assert f"cannot tell metrics at 127.0.0.1 port {port}" in done.stderr
