"""OpenTelemetry traces: on when the environment names a collector and the extra ``otel`` is installed.

The SDK reads the standard ``OTEL_*`` variables. It is imported once `start` finds one of `ENDPOINTS`; until then every
function here returns at once. Spans hold ids, names, codes and counts; never headers, query strings, bodies or the text
of an error, any of which may hold a secret.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import structlog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# A collector that does not answer must not hold up the end of a process.
FLUSH_SECONDS = 3.0
NANOSECONDS = 1_000_000_000

Attributes = Mapping[str, str | int | float | bool]

log = structlog.stdlib.get_logger(__name__)
_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def is_wanted() -> bool:
    """Whether the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return os.environ.get("OTEL_TRACES_EXPORTER") != "none" and any(os.environ.get(name) for name in ENDPOINTS)


def is_on() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def start(service: str, processor: "SpanProcessor | None" = None) -> None:
    """Record spans from here on, if the environment asks for them. Traces that cannot be had are logged, not raised.

    Args:
        service: the name of this kind of process, unless ``OTEL_SERVICE_NAME`` gives one.
        processor: takes the spans in place of the exporter that the environment describes.
    """
    global _provider, _tracer
    if is_on() or not (processor or is_wanted()):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces: install the extra `otel`, pip install 'forerank[otel]'")
        return
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    try:
        provider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": service}), shutdown_on_exit=False
        )
        provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:
        log.warning("no traces: the OTEL_* variables cannot be used", reason=str(error))
        return
    _provider, _tracer = provider, provider.get_tracer("forerank")


def stop() -> None:
    """Send what was not sent yet, for `FLUSH_SECONDS` at most, and record nothing more."""
    global _provider, _tracer
    if _provider is None:
        return
    flushing = threading.Thread(target=_provider.shutdown, name="traces", daemon=True)
    _provider = _tracer = None
    flushing.start()
    flushing.join(FLUSH_SECONDS)


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    attributes: Attributes | None = None,
    kind: Literal["internal", "server"] = "internal",
) -> Iterator[None]:
    """A span around what is done inside. An error that leaves it marks it, by the error's type.

    Args:
        parent: the ``traceparent`` of another process; None or malformed: the span around this one, if there is one.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name,
        context=_context(parent),
        kind=SpanKind.SERVER if kind == "server" else SpanKind.INTERNAL,
        attributes=attributes,
        # Both would write the error's text.
        record_exception=False,
        set_status_on_exception=False,
    ):
        try:
            yield
        except BaseException as error:
            fail(type(error).__name__)
            raise


def stages(seconds: Mapping[str, float]) -> None:
    """Add spans of stages that another process went through, one after the other, the last of which has just ended."""
    if _tracer is None:
        return
    moment = time.time_ns() - int(sum(seconds.values()) * NANOSECONDS)
    for stage, duration in seconds.items():
        recorded = _tracer.start_span(stage, start_time=moment)
        moment += int(duration * NANOSECONDS)
        recorded.end(end_time=moment)


def describe(attributes: Attributes, *, name: str | None = None) -> None:
    """Add to the present span what is known only by now."""
    if _tracer is None:
        return
    present = _present()
    present.set_attributes(attributes)
    if name is not None:
        present.update_name(name)


def fail(reason: str) -> None:
    """Mark the present span as failed; ``reason`` is a code, or the name of an exception's type."""
    if _tracer is None:
        return
    from opentelemetry.trace import StatusCode

    _present().set_attribute("error.type", reason)
    _present().set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """The present span as another process names it (W3C Trace Context); None without traces."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context(parent: str | None) -> "Context | None":
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _present() -> Any:
    from opentelemetry.trace import get_current_span

    return get_current_span()
