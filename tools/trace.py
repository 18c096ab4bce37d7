"""What is done for a request, as spans of one trace, and how those that we ask are told of it.

Where nobody collects spans, the API of OpenTelemetry makes none, and only carries the trace on.

Sources: https://www.w3.org/TR/trace-context/, https://github.com/open-telemetry/semantic-conventions-genai
"""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from tools.identity import NAME

Attributes = Mapping[str, AttributeValue]

CONVERSATION: ContextVar[str | None] = ContextVar("conversation", default=None)
"""The id of the session that the current request is in."""

TRACER = trace.get_tracer(NAME)
PROPAGATOR = TraceContextTextMapPropagator()


def carry_on(headers: Mapping[str, str], trace_id: str) -> None:
    """Let what follows belong to a request's trace: the one that its headers name, or a new one of 32 hex digits.

    Nothing is to be done where the request has a span: that says it.
    """
    if trace.get_current_span().get_span_context().is_valid:
        return
    given = PROPAGATOR.extract(headers)
    if not trace.get_current_span(given).get_span_context().is_valid:
        begun = SpanContext(int(trace_id, 16), secrets.randbits(63) + 1, False, TraceFlags(TraceFlags.SAMPLED))
        given = trace.set_span_in_context(NonRecordingSpan(begun))
    context.attach(given)


def trace_headers(span: Span | None = None) -> dict[str, str]:
    """Return the headers that tell others what they work for: a span, or else the current one."""
    headers: dict[str, str] = {}
    PROPAGATOR.inject(headers, trace.set_span_in_context(span) if span else None)
    return headers


def current_trace() -> str | None:
    """Return the id of the current trace, 32 hex digits; None outside of requests."""
    about = trace.get_current_span().get_span_context()
    return f"{about.trace_id:032x}" if about.is_valid else None


def begin(operation: str, subject: str, attributes: Attributes, kind: SpanKind = SpanKind.INTERNAL) -> Span:
    """Begin the span of one of GenAI's operations, a part of what is being done."""
    about = {"gen_ai.operation.name": operation, **attributes}
    if conversation := CONVERSATION.get():
        about["gen_ai.conversation.id"] = conversation
    return TRACER.start_span(f"{operation} {subject}", kind=kind, attributes=about)


@contextmanager
def doing(span: Span) -> Iterator[None]:
    """Let what is done in the body be part of the span, and end it with the body."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
    except BaseException as error:
        fail(span, error)
        raise
    finally:
        span.end()


def fail(span: Span, error: BaseException) -> str:
    """Note that what the span is of has failed, and return the `error.type`: what the error calls itself, or its class.

    Its words are not noted, since they may have what nobody should read.
    """
    is_stopped = isinstance(error, asyncio.CancelledError | GeneratorExit)
    kind: str = "cancelled" if is_stopped else getattr(error, "error_type", type(error).__qualname__)
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
    return kind
