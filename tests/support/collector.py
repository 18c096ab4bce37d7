"""A stand-in for an OpenTelemetry collector: it keeps the traces and metrics that come over OTLP (HTTP, protobuf)."""

import gzip
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass
class Collector:
    """The collector, and what it was sent."""

    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        """The collector as an ASGI app."""
        return Starlette(
            routes=[
                Route("/v1/traces", self._traces, methods=["POST"]),
                Route("/v1/metrics", self._metrics, methods=["POST"]),
            ]
        )

    def named(self, name: str) -> Span:
        """The only span of a name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def metric(self, name: str) -> Metric:
        """A metric as it was sent last."""
        return [metric for metric in self.metrics if metric.name == name][-1]

    async def _traces(self, request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await self._body(request))
        for of_resource in sent.resource_spans:
            self.resources.append(values(of_resource.resource.attributes))
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)
        return Response(media_type="application/x-protobuf")

    async def _metrics(self, request: Request) -> Response:
        sent = ExportMetricsServiceRequest.FromString(await self._body(request))
        for of_resource in sent.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                self.metrics.extend(of_scope.metrics)
        return Response(media_type="application/x-protobuf")

    async def _body(self, request: Request) -> bytes:
        body = await request.body()
        body = gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        return body


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as Python's values."""
    given: list[KeyValue] = list(attributes)
    return {attribute.key: _value(attribute.value) for attribute in given}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
