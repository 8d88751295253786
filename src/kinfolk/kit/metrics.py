"""Counters and durations for Prometheus, right over several processes."""

import asyncio
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS_GATHERED = 1.0
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class HttpMetrics:
    """Requests by method, route and status; a route is the template of a path, never the path itself.

    What is counted is gathered, and shared with the other processes once a second: to write each request down by
    itself costs more than to log it.
    """

    def __init__(self) -> None:
        from prometheus_client import Counter

        self._requests = Counter("kinfolk_http_requests_total", "Requests answered.", ("method", "route", "status"))
        self._seconds = _durations()
        self._gathered: dict[tuple[str, str, int], _Requests] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request; to be called from the event loop."""
        key = (method, route, status)
        requests = self._gathered.get(key)
        if requests is None:
            if not self._gathered:
                asyncio.get_running_loop().call_later(SECONDS_GATHERED, self.share)
            requests = self._gathered[key] = _Requests()
        requests.by_bound[bisect_left(BOUNDS, seconds)] += 1
        requests.seconds += seconds

    def share(self) -> None:
        """Write down what was gathered."""
        gathered, self._gathered = self._gathered, {}
        for (method, route, status), requests in gathered.items():
            self._requests.labels(method, route, str(status)).inc(sum(requests.by_bound))
            self._seconds.labels(route).observe_many(requests.by_bound, requests.seconds)


class _Requests:
    """Those of one method, route and status that are not yet shared."""

    __slots__ = ("by_bound", "seconds")

    def __init__(self) -> None:
        self.by_bound = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class OutsideMetrics:
    """Calls to outside services by service and outcome."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        self._calls = Counter(
            "kinfolk_outside_calls_total",
            "Calls to outside services, each with all its attempts; an outcome is `answered`, a problem, or `broken`.",
            ("service", "outcome"),
        )
        self._seconds = Histogram(
            "kinfolk_outside_call_seconds",
            "Time that a call to an outside service took with all its attempts, in seconds.",
            ("service",),
            buckets=BOUNDS,
        )

    def count(self, service: str, outcome: str, seconds: float) -> None:
        self._calls.labels(service, outcome).inc()
        self._seconds.labels(service).observe(seconds)


@cache
def outside_metrics() -> OutsideMetrics:
    """The one instance of this process, as `http_metrics`."""
    return OutsideMetrics()


def _durations() -> Any:
    from prometheus_client import Histogram

    class Durations(Histogram):
        """With a way to observe more than one duration at a time, which the library lacks."""

        def observe_many(self, by_bound: Sequence[int], total: float) -> None:
            self._sum.inc(total)
            for bucket, how_many in zip(self._buckets, by_bound, strict=True):
                if how_many:
                    bucket.inc(how_many)

    return Durations(
        "kinfolk_http_request_seconds",
        "Time from the first byte of a request to the last of its answer, in seconds.",
        ("route",),
        buckets=BOUNDS,
    )


@cache
def http_metrics() -> HttpMetrics:
    """The one instance of this process: a metric's name can be registered once."""
    return HttpMetrics()


class JobMetrics:
    """Attempts at jobs by name and outcome."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        self._attempts = Counter("kinfolk_job_attempts_total", "Attempts at jobs.", ("name", "outcome"))
        self._seconds = Histogram("kinfolk_job_seconds", "Time that an attempt took, in seconds.", ("name",))

    def expect(self, names: Iterable[str]) -> None:
        """Be at 0 for these from the start: to Prometheus, what begins at 1 has not grown."""
        for name in names:
            self._attempts.labels(name, "done")
            self._attempts.labels(name, "failed")

    def count(self, name: str, outcome: str, seconds: float) -> None:
        self._attempts.labels(name, outcome).inc()
        self._seconds.labels(name).observe(seconds)


@cache
def job_metrics() -> JobMetrics:
    """The one of this process, as above."""
    return JobMetrics()


class TickMetrics:
    """Ticks that were owed, by name."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self._ticks = Counter("kinfolk_ticks_total", "Ticks owed as jobs by these schedulers.", ("name",))

    def count(self, name: str) -> None:
        self._ticks.labels(name).inc()


@cache
def tick_metrics() -> TickMetrics:
    """The one of this process, as above."""
    return TickMetrics()


class MessageMetrics:
    """Messages by lane and by what became of them."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        self._messages = Counter("kinfolk_messages_total", "Messages taken.", ("lane", "outcome"))
        self._seconds = Histogram("kinfolk_message_seconds", "Time from a message's arrival to its end.", ("lane",))

    def expect(self, lane: str) -> None:
        """As for jobs."""
        self._messages.labels(lane, "done")
        self._messages.labels(lane, "parked")

    def count(self, lane: str, outcome: str, seconds: float) -> None:
        self._messages.labels(lane, outcome).inc()
        self._seconds.labels(lane).observe(seconds)


@cache
def message_metrics() -> MessageMetrics:
    """The one of this process, as above."""
    return MessageMetrics()


@contextmanager
def shared_folder() -> Iterator[str]:
    """The folder that the processes of this start share; to be chosen before any metric is made."""
    with tempfile.TemporaryDirectory(prefix="kinfolk-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        try:
            yield folder
        finally:
            del os.environ[FOLDER]


def forget_process(pid: int) -> None:
    """A process ended: its gauges count no more; its counters stay, for they happened."""
    from prometheus_client import multiprocess

    if FOLDER in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def exposition() -> tuple[bytes, str]:
    """All metrics of all processes in the text format, and its media type."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


class CacheMetrics:
    """Where answers were found that are kept, and how much is kept."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge

        answers = Counter(
            "kinfolk_cached_answers_total", "Answers asked for, by where they were: memory, redis, nowhere.", ("found",)
        )
        self._found = {where: answers.labels(where) for where in ("memory", "redis", "nowhere")}
        self.hold = Gauge(
            "kinfolk_cache_bytes", "Bytes of answers kept in memory, by all processes.", multiprocess_mode="livesum"
        ).set

    def count(self, found: str) -> None:
        self._found[found].inc()


@cache
def cache_metrics() -> CacheMetrics:
    """The one instance of this process, as `http_metrics`."""
    return CacheMetrics()


class SocketMetrics:
    """WebSockets, and what goes out to them."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge

        self.hold = Gauge("kinfolk_sockets", "WebSockets open, by all processes.", multiprocess_mode="livesum").set
        self.send = Counter("kinfolk_socket_events_total", "Events sent, once for each socket.").inc
        self._ended = Counter("kinfolk_sockets_ended_total", "WebSockets that ended, by their close code.", ("code",))

    def end(self, code: int) -> None:
        self._ended.labels(_close_code(code)).inc()


def _close_code(code: int) -> str:
    """Those of clients may be anything from 3000 to 4999, and a label must not."""
    return str(code) if code < 3_000 or code in (4_401, 4_408, 4_429) else "other"


@cache
def socket_metrics() -> SocketMetrics:
    """The one instance of this process, as `http_metrics`."""
    return SocketMetrics()
