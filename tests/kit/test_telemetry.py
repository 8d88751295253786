"""What a service tells Sentry and an OpenTelemetry collector: a server takes what their libraries send."""

import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import brotli
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pamqp.commands import Basic
from tests.conftest import run_sql
from tests.postgres_places import eventually
from tests.rabbit_client import channel_to
from tests.running import Service

from kinfolk.kit import telemetry
from kinfolk.kit.ending import WrongSetting
from kinfolk.kit.settings import TelemetrySettings

SECONDS = 60
SECRET = "Ivan lives in Ryazan"
SAYS_TOO_MUCH = (
    f"CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{SECRET}'; END $$",
    "CREATE TRIGGER talks BEFORE UPDATE OF is_active ON students FOR EACH ROW EXECUTE FUNCTION talk()",
)
CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"}
CLOCK = b'{"datetime": "2020-11-21T18:04:05.123456+03:00"}'


class Receiver:
    """All that arrives: reports of accidents, spans, and calls to an outside service, which tells the time."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []
        self.calls: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # http.server's name
                body = self.rfile.read(int(self.headers["content-length"]))
                unpack = {"gzip": gzip.decompress, "br": brotli.decompress, None: bytes}
                receiver.take(self.path, unpack[self.headers["content-encoding"]](body))
                self.answer(b"{}")

            def do_GET(self) -> None:  # http.server's name
                receiver.calls.append({name.lower(): value for name, value in self.headers.items()})
                self.answer(CLOCK)

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/api/7/envelope/":
            _envelope, _head, report = body.splitlines()[:3]
            self.reports.append(json.loads(report))
        else:
            assert path == "/otlp/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                role = facts(resource.resource.attributes)
                for span in resource.scope_spans[0].spans:
                    ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                    self.spans.append(
                        {"name": span.name, "status": span.status.code} | ids | role | facts(span.attributes)
                    )

    def all(self, **wanted: Any) -> list[dict[str, Any]]:
        return [span for span in self.spans if wanted.items() <= span.items()]

    def one(self, **wanted: Any) -> dict[str, Any]:
        assert eventually(lambda: self.all(**wanted) != [], SECONDS), [span["name"] for span in self.spans]
        [span] = self.all(**wanted)
        return span


def facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(scope="module")
def product(receiver: Receiver, make_database: Any, amqp_url: str) -> Iterator[Service]:
    url = make_database("told")
    run_sql(url, *SAYS_TOO_MUCH)
    settings = {
        "KINFOLK_SENTRY_DSN": f"http://key@{receiver.place}/7",
        "KINFOLK_OTLP_URL": f"http://{receiver.place}/otlp/",
        "KINFOLK_TIMEZONE_URL": f"http://{receiver.place}/time",
        "NO_PROXY": "127.0.0.1",
    }
    with Service("up", "--pg-url", url, "--amqp-url", amqp_url, environment=settings) as product:
        yield product


def test_a_request_and_the_job_that_it_owed_are_one_trace(product: Service, receiver: Receiver) -> None:
    with httpx.Client(base_url=product.url) as client:
        added = client.post("/api/v1/students", json={"name": "Anna"}, headers=TRACEPARENT)
    assert added.status_code == 201, added.text
    request = receiver.one(name="POST /api/v1/students")
    assert (request["trace"], request["parent"]) == (CLIENT_TRACE, CLIENT_SPAN)
    assert request["http.response.status_code"] == 201
    assert request["service.name"] == "kinfolk"
    assert request["kinfolk.role"] == "api 1"
    assert request["kinfolk.id"] == added.headers["x-request-id"] == CLIENT_TRACE
    job = receiver.one(name="students.welcome", trace=CLIENT_TRACE)
    assert job["parent"] == request["id"]
    assert (job["kinfolk.outcome"], job["kinfolk.role"]) == ("done", "work")


def test_an_outside_call_carries_the_trace_on(product: Service, receiver: Receiver) -> None:
    with httpx.Client(base_url=product.url) as client:
        asked = client.get("/api/v1/timezone", params={"area": "Europe", "city": "Moscow"})
    assert asked.status_code == 200, asked.text
    request = receiver.one(name="GET /api/v1/timezone")
    call = receiver.one(name="timezone")
    assert request["parent"] == ""
    assert (call["trace"], call["parent"]) == (request["trace"], request["id"])
    assert receiver.calls[-1]["traceparent"].startswith(f"00-{call['trace']}-{call['id']}-0")


async def test_a_message_is_below_who_sent_it(product: Service, receiver: Receiver, amqp_url: str) -> None:
    trace = CLIENT_TRACE[::-1]
    async with channel_to(amqp_url) as channel:
        headers = {"traceparent": f"00-{trace}-{CLIENT_SPAN}-01"}
        await channel.basic_publish(
            b'{"name": "Boris"}',
            exchange="example.exchange",
            routing_key="example.main",
            properties=Basic.Properties(content_type="application/json", headers=headers),
        )
        message = receiver.one(name="example.main")
    assert (message["trace"], message["parent"]) == (trace, CLIENT_SPAN)
    assert message["kinfolk.outcome"] == "done"
    assert receiver.one(name="students.welcome", trace=trace)["parent"] == message["id"]


def test_an_accident_is_reported_without_its_words(product: Service, receiver: Receiver) -> None:
    with httpx.Client(base_url=product.url) as client:
        place = client.post("/api/v1/students", json={"name": "Ivan"}).headers["location"]
        assert client.get("/api/v1/students/999999").status_code == 404
        broken = client.delete(place, headers={"x-request-id": "broke-here"})
    assert broken.status_code == 500
    assert eventually(lambda: receiver.reports != [], SECONDS)
    [report] = receiver.reports
    tags = {"role": "api 1", "event": "request", "method": "DELETE", "status": "500", "id": "broke-here"}
    assert report["tags"] == tags
    [error] = report["exception"]["values"]
    assert (error["type"], error["value"]) == ("RaiseError", "")
    told = json.dumps(report)
    assert "fetchrow_or" in told  # the frames are there
    for word in (SECRET, "Ivan", place):
        assert word not in told
    assert eventually(lambda: SECRET in product.log, SECONDS)  # where it may be read
    span = receiver.one(name="DELETE /api/v1/students/{student_id}")
    assert (span["error.type"], span["status"]) == ("RaiseError", 2)
    assert SECRET not in str(receiver.spans)


def test_nothing_is_lost_at_the_end_and_nobody_who_listens_does_no_harm(make_database: Any) -> None:
    receiver = Receiver()
    url = f"http://{receiver.place}"
    words = (
        "--pg-url",
        make_database("told"),
        "--otlp-url",
        url + "/otlp",
        "--sentry-dsn",
        f"http://key@{receiver.place}/7",
    )
    with Service("api", *words, environment={"NO_PROXY": "127.0.0.1"}) as service:
        httpx.get(f"{service.url}/health")
        service.end()
        assert receiver.all(name="GET /health") != []
    receiver.server.shutdown()
    receiver.server.server_close()
    with Service("api", *words, environment={"NO_PROXY": "127.0.0.1"}) as service:
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert service.end() == 0


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--sentry-dsn", "http://127.0.0.1"),
        ("--otlp-url", "collector:4318"),
        ("--otlp-url", "http://collector:0"),
        ("--otlp-url", "http://[collector"),
        ("--otlp-url", "http://collector?key=1"),
    ],
)
def test_an_address_that_is_none_is_refused(flag: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=f"^{flag} must look like"):
        telemetry.use(TelemetrySettings(**{flag.removeprefix("--").replace("-", "_"): value}))


def test_only_what_has_an_accident_is_reported(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = logging.getLogger()
    before = root.filters[:]
    known = len(receiver.reports)
    telemetry.use(TelemetrySettings(sentry_dsn=f"http://key@{receiver.place}/7"))
    telemetry.start("here")
    try:
        for error in (None, ValueError(SECRET)):
            root.handle(logging.makeLogRecord({"levelno": 40, "exc_info": error and (ValueError, error, None)}))
        assert eventually(lambda: len(receiver.reports) > known, SECONDS)
    finally:
        telemetry.stop()
        telemetry.use(TelemetrySettings())
        root.filters[:] = before
    [report] = receiver.reports[known:]
    assert (report["tags"], report["exception"]["values"][0]["value"]) == ({"role": "here"}, "")


WITHOUT_LIBRARIES = """
import sys
from kinfolk import cli
sys.modules["sentry_sdk"] = sys.modules["opentelemetry"] = None
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("words", "extra"),
    [(("--sentry-dsn", "http://key@127.0.0.1/7"), "sentry"), (("--otlp-url", "http://127.0.0.1:4318"), "otlp")],
)
def test_who_lacks_the_library_is_told_what_to_install(words: tuple[str, ...], extra: str) -> None:
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, "schedule", "--pg-url", "postgresql://nobody@127.0.0.1:1/x"]
    told = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert told.returncode == 3
    assert f"pip install 'kinfolk[{extra}]'" in told.stderr


LOADED = """
import sys
from kinfolk import cli
from kinfolk.kit import process, telemetry
telemetry.use(telemetry.TelemetrySettings())
telemetry.start("api")
print([name for name in sys.modules if name.startswith(("sentry", "opentelemetry"))])
"""


def test_who_sets_neither_loads_neither() -> None:
    assert subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout == "[]\n"
