"""Telling others of the work: accidents to Sentry, spans to OpenTelemetry. Where neither is set, nothing is loaded.

    span = begin("students.welcome", "consumer", traceparent)
    with span:  # what is begun inside is below it, and `traceparent()` names it
        ...
    span.end({"outcome": "done"})

Neither is told personal data: facts are ids, names of our own and counts, and of an exception its kind and its frames
without their values, never its words.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

from kinfolk import __version__
from kinfolk.kit.ending import Missing, WrongSetting
from kinfolk.kit.settings import TelemetrySettings

STOP_SECONDS = 1.0
GATHERED_MILLISECONDS = 1_000
EXPORT_SECONDS = 5.0
TOLD = ("event", "role", "name", "lane", "method", "status", "job_id", "attempt", "outcome", "id")

Kind = Literal["server", "consumer", "client"]


class Span:
    """A piece of work, from its beginning until `end`; while entered, it is the one under way."""

    __slots__ = ("_request_id", "_span", "_token")
    _token: Token[Any]

    def __init__(self, span: Any = None, request_id: str | None = None) -> None:
        """Of nothing: a span that is told to nobody."""
        self._span = span
        self._request_id = request_id

    def __enter__(self) -> None:
        if self._span is not None:
            self._token = _under_way.set(self._span)

    def __exit__(self, *_error: object) -> None:
        if self._span is not None:
            _under_way.reset(self._token)

    def end(self, facts: Mapping[str, Any], error: BaseException | None = None, name: str | None = None) -> None:
        """`error` is an accident. Facts that are None are left out; those without a dot are called kinfolk.…."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        if name is not None:
            self._span.update_name(name)
        known = {fact: value for fact, value in facts.items() if value is not None}
        self._span.set_attributes({fact if "." in fact else f"kinfolk.{fact}": known[fact] for fact in known})
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(StatusCode.ERROR)
        _of_requests.pop(self._request_id, None)
        self._span.end()


NOTHING = Span()
"""The span of whatever nobody is told of."""
_of_requests: dict[str | None, str] = {}
_under_way: ContextVar[Any] = ContextVar("span", default=None)


class _Own:
    """What this process tells, and how each telling ends."""

    settings = TelemetrySettings()
    tracer: Any = None
    stops: tuple[Callable[[], object], ...] = ()


def begin(name: str, kind: Kind, parent: str | None = None, request_id: str | None = None) -> Span:
    """Begin a span below `parent`, a `traceparent` (W3C Trace Context), else below the one under way here.

    With a request's id it is that request's span in this process, see `traceparents`.
    """
    if _Own.tracer is None:
        return NOTHING
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if parent is not None:
        above = TraceContextTextMapPropagator().extract({"traceparent": parent})
    else:
        above = trace.set_span_in_context(_under_way.get() or trace.INVALID_SPAN)
    span = _Own.tracer.start_span(name, above, trace.SpanKind[kind.upper()])
    if request_id is not None:
        _of_requests[request_id] = _named(span)
    return Span(span, request_id)


def traceparent() -> str | None:
    """What names the span under way to others (W3C Trace Context)."""
    span = _under_way.get()
    return None if span is None else _named(span)


def traceparents(request_ids: Iterable[str | None]) -> dict[str, str]:
    """What names the spans of those requests that are under way in this process: many may be served by one task."""
    return {each: _of_requests[each] for each in request_ids if each is not None and each in _of_requests}


def _named(span: Any) -> str:
    named = span.get_span_context()
    return f"00-{named.trace_id:032x}-{named.span_id:016x}-{named.trace_flags:02x}"


def use(settings: TelemetrySettings) -> None:
    """What the processes forked from now on tell, once they `start`. Raises WrongSetting and Missing.

    What is loaded for it is loaded here, to be shared by all.
    """
    if settings.sentry_dsn is not None:
        _load_sentry(settings.sentry_dsn)
    if settings.otlp_url is not None:
        _load_otlp(settings.otlp_url)
    _Own.settings = settings


def start(role: str) -> None:
    """Begin to tell, in threads: to be called after the last fork."""
    if _Own.settings.sentry_dsn is not None:
        _Own.stops += (_tell_sentry(_Own.settings.sentry_dsn, role),)
    if _Own.settings.otlp_url is not None:
        _Own.stops += (_tell_otlp(_Own.settings.otlp_url, role),)


def stop() -> None:
    """Tell what still waits, for a second at the most: nobody to listen must not hold up the end."""
    _Own.tracer = None
    telling = [Thread(target=each, daemon=True) for each in _Own.stops]
    _Own.stops = ()
    for thread in telling:
        thread.start()
    for thread in telling:
        thread.join(STOP_SECONDS)


def _load_sentry(dsn: str) -> None:
    try:
        from sentry_sdk.utils import BadDsn, Dsn
    except ImportError:
        raise Missing("--sentry-dsn needs a library: pip install 'kinfolk[sentry]'") from None
    try:
        Dsn(dsn)
    except BadDsn:
        raise WrongSetting("--sentry-dsn must look like https://key@host/number") from None


def _tell_sentry(dsn: str, role: str) -> Callable[[], object]:
    import sentry_sdk

    sentry_sdk.init(
        dsn,
        release=f"kinfolk@{__version__}",
        before_send=_without_words,
        default_integrations=False,  # what is told is told here, and nothing is hooked into
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        send_client_reports=False,
        include_local_variables=False,
        max_breadcrumbs=0,
    )

    def tell(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            line = {"role": role} | getattr(record, "event", {})
            with sentry_sdk.new_scope() as scope:
                scope.set_tags({name: str(line[name]) for name in TOLD if line.get(name) is not None})
                scope.capture_exception(record.exc_info[1])
        return True

    logging.getLogger().addFilter(tell)  # through which goes every line on an accident, and no other
    return sentry_sdk.get_client().close


def _without_words(event: Any, _hint: object) -> Any:
    """The words of an exception may tell of people."""
    for each in event["exception"]["values"]:
        each["value"] = ""
    return event


def _load_otlp(url: str) -> None:
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError:
        raise Missing("--otlp-url needs a library: pip install 'kinfolk[otlp]'") from None
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or parts.query or parts.fragment:
        raise WrongSetting("--otlp-url must look like http://host:4318")


def _tell_otlp(url: str, role: str) -> Callable[[], object]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    facts = {"service.name": "kinfolk", "service.version": __version__, "kinfolk.role": role}
    provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(url.rstrip("/") + "/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=GATHERED_MILLISECONDS))
    _Own.tracer = provider.get_tracer("kinfolk", __version__)
    return provider.shutdown
