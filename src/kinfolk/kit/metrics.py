"""Counters and durations for Prometheus, right over several processes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class HttpMetrics:
    """Requests by method, route and status; a route is the template of a path, never the path itself."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Histogram

        self._requests = Counter("kinfolk_http_requests_total", "Requests answered.", ("method", "route", "status"))
        self._seconds = Histogram(
            "kinfolk_http_request_seconds",
            "Time from the first byte of a request to the last of its answer, in seconds.",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        known = self._known.get(key)
        if known is None:
            known = (self._requests.labels(method, route, str(status)), self._seconds.labels(route))
            self._known[key] = known
        known[0].inc()
        known[1].observe(seconds)


@cache
def http_metrics() -> HttpMetrics:
    """The one instance of this process: a metric's name can be registered once."""
    return HttpMetrics()


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
