"""Traces and metrics for OpenTelemetry, over OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT says where to.

FastAPI makes the spans of requests, `tools/trace.py` those within. No message, argument, result, error text, query
string or key is part of them. The SDK reads its other OTEL_… variables itself.

Sources: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/,
https://github.com/open-telemetry/semantic-conventions-genai
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from dotenv import dotenv_values
from fastapi.telemetry import TelemetryConfig
from opentelemetry import metrics, trace

from tools.environment import ENCODING, ENV_FILE
from tools.identity import NAME, version

log = logging.getLogger(__name__)

ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
# Requests of machines that look after us.
UNTRACED = ("/health", "/ready", "/metrics")
# Seconds for what was not sent yet when the server ends. A collector that is away does not hold it up for longer.
LAST_SECONDS = 3.0

OF_REQUESTS: TelemetryConfig = {
    "auto_configure": False,  # at the end it would wait for a collector that is away
    "logs": False,  # they would have the words of errors
    "operation_spans": False,  # of FastAPI's inner steps
    "exclude": lambda scope: scope["path"] in UNTRACED,
}
"""What FastAPI does."""


@asynccontextmanager
async def telemetry(endpoint: str | None) -> AsyncIterator[None]:
    """Send traces and metrics as long as this is open, if there is an endpoint."""
    for name, value in dotenv_values(ENV_FILE, encoding=ENCODING).items():
        if name.startswith("OTEL_") and value and not os.environ.get(name):
            os.environ[name] = value  # where the SDK reads it
    shutdowns = _opened() if endpoint else ()
    try:
        yield
    finally:
        # In threads that do not keep the process.
        sending = [threading.Thread(target=shutdown, daemon=True) for shutdown in shutdowns]
        for thread in sending:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join, LAST_SECONDS) for thread in sending))


def _opened() -> Sequence[Callable[[], object]]:
    """Open what sends, for the whole process, and return what shuts it down; of another's nothing is touched."""
    if (os.environ.get(PROTOCOL) or "http/protobuf") != "http/protobuf":
        log.warning("%s: only http/protobuf is spoken, usually at port 4318. No traces are sent.", PROTOCOL)
        return ()
    try:  # it costs a start 0.1 s, and belongs to an extra
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("%s needs the extra 'otel': pip install '.[otel]'. No traces are sent.", ENDPOINT)
        return ()
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return ()  # as of `opentelemetry-instrument`
    ours = Resource.create({"service.name": NAME, "service.version": version()})
    resource = ours.merge(OTELResourceDetector().detect())  # of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    spans = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    measured = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(spans)
    metrics.set_meter_provider(measured)
    return spans.shutdown, measured.shutdown
