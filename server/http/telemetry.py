"""Traces and metrics for OpenTelemetry, over OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT says where to.

FastAPI makes the spans of requests, `tools/trace.py` those within. No message, argument, result, error text, query
string or key is part of them. The SDK reads its other OTEL_… variables itself, from the environment; those of `.env`
are added to it.

Sources: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/,
https://github.com/open-telemetry/semantic-conventions-genai
"""

import asyncio
import logging
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from fastapi.telemetry import TelemetryConfig
from opentelemetry import metrics, trace

from tools.environment import ENCODING, ENV_FILE, tidy
from tools.identity import NAME, version
from tools.printed import secrets_of_url, without

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# Requests of machines that look after us.
UNTRACED = ("/health", "/ready", "/metrics")
# Seconds for what was not sent yet when the server ends. A collector that is away does not hold it up for longer.
LAST_SECONDS = 3.0
# What sends writes the address to this log.
SENDER = "urllib3.connectionpool"

OF_REQUESTS: TelemetryConfig = {
    "auto_configure": False,  # at the end it would wait for a collector that is away
    "logs": False,  # they would have the words of errors
    "operation_spans": False,  # of FastAPI's inner steps
    "exclude": lambda scope: scope["path"] in UNTRACED,
}
"""What FastAPI does."""

Shutdown = Callable[[], object]


@asynccontextmanager
async def telemetry(endpoint: str | None) -> AsyncIterator[None]:
    """Send traces and metrics as long as this is open, if there is an endpoint."""
    shutdowns = list(_opened(endpoint)) if endpoint else []
    try:
        yield
    finally:
        # In threads that do not keep the process.
        sending = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
        for thread in sending:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join, LAST_SECONDS) for thread in sending))


def _opened(endpoint: str) -> Iterator[Shutdown]:
    """Open what sends, for the whole process, and yield what shuts it down; of another's nothing is touched."""
    for name, value in {**dotenv_values(ENV_FILE, encoding=ENCODING), **os.environ}.items():
        if name.startswith("OTEL_") and value:
            os.environ[name] = tidy(value)
    os.environ[ENDPOINT] = endpoint
    try:  # it costs a start 0.1 s, and belongs to an extra
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        if isinstance(trace.get_tracer_provider(), TracerProvider):
            return  # as of `opentelemetry-instrument`
        logging.getLogger(SENDER).addFilter(WithoutSecrets())
        ours = Resource.create({"service.name": NAME, "service.version": version()})
        resource = ours.merge(OTELResourceDetector().detect())  # of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        if _is_sent("TRACES"):
            yield _open_traces(resource)
        if _is_sent("METRICS"):
            yield _open_metrics(resource)
    except ImportError:
        log.warning("%s needs the extra 'otel': pip install '.[otel]'. Nothing is sent.", ENDPOINT)


def _is_sent(signal: str) -> bool:
    """Say whether the environment wants a signal sent, in the one protocol that is spoken."""
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "").lower() == "none":
        return False
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(name):
            if protocol != "http/protobuf":
                log.warning("%s: only http/protobuf is spoken, usually at port 4318. No %s are sent.", name, signal)
            return protocol == "http/protobuf"
    return True


def _open_traces(resource: "Resource") -> Shutdown:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(spans)
    return spans.shutdown


def _open_metrics(resource: "Resource") -> Shutdown:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    measured = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource, shutdown_on_exit=False
    )
    metrics.set_meter_provider(measured)
    return measured.shutdown


class WithoutSecrets(logging.Filter):
    """Leaves what is secret in the OTEL_… variables out of the log of what sends: it writes headers and addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace every secret in the line, and let the line pass."""
        if record.name.startswith(("opentelemetry", SENDER)):
            record.msg, record.args, record.exc_info = without(_secrets(), record.getMessage()), (), None
        return True


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if name.startswith("OTEL_") and name.endswith("_HEADERS"):
            yield from (value, *re.split("[=:, ]+", value))
        if name.startswith("OTEL_") and name.endswith("_ENDPOINT"):
            yield from secrets_of_url(value)
