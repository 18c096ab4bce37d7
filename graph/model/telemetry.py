"""What OpenTelemetry is told of one call of a model: a span and two measurements.

Source: https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/client-inference.md)
"""

import time
from types import TracebackType

import httpx2
from langchain_core.messages.ai import UsageMetadata
from opentelemetry import metrics
from opentelemetry.trace import SpanKind

from tools.identity import NAME
from tools.trace import Attributes, begin, fail, trace_headers

DEFAULT_PORTS = {"http": 80, "https": 443}
# Seconds; the convention's own.
BUCKETS = tuple(0.01 * 2**power for power in range(14))

METER = metrics.get_meter(NAME)
DURATION = METER.create_histogram(
    "gen_ai.client.inference.duration", "s", "Calls of models.", explicit_bucket_boundaries_advisory=BUCKETS
)
FIRST_CHUNK = METER.create_histogram(
    "gen_ai.client.inference.time_to_first_chunk",
    "s",
    "Time until the first chunk of an answer.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)


class Inference:
    """One call of a model, as a context manager.

    It is not the current span: what is set inside an asynchronous generator is set for its reader too.
    """

    def __init__(self, model: str, url: httpx2.URL) -> None:
        self._about: dict[str, str | int] = {
            "gen_ai.provider.name": "openai",  # whose format it is; who provides the model is not known
            "gen_ai.request.model": model,
            "server.address": url.host,
            "server.port": url.port or DEFAULT_PORTS.get(url.scheme, 0),
        }
        attributes: Attributes = {**self._about, "gen_ai.request.stream": True}
        self._span = begin("chat", model, attributes, SpanKind.CLIENT)
        self._began = time.monotonic()
        self._is_answered = False
        self.headers = trace_headers(self._span)
        """They tell the endpoint what it works for."""

    def __enter__(self) -> "Inference":
        """Begin the call."""
        return self

    def chunk(self) -> None:
        """Note that a piece of the answer has come; how long the first one took is measured."""
        if self._is_answered:
            return
        self._is_answered = True
        seconds = time.monotonic() - self._began
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        FIRST_CHUNK.record(seconds, self._measured())

    def answered(self, finish_reason: str, usage: UsageMetadata | None) -> None:
        """Note how the answer ended, and the tokens that the endpoint counted."""
        self._span.set_attribute("gen_ai.response.finish_reasons", [finish_reason])
        if usage:
            self._span.set_attribute("gen_ai.usage.input_tokens", usage["input_tokens"])
            self._span.set_attribute("gen_ai.usage.output_tokens", usage["output_tokens"])

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """End the call, and tell how long it took."""
        if error:
            self._about["error.type"] = fail(self._span, error)
        self._span.end()
        DURATION.record(time.monotonic() - self._began, self._measured())

    def _measured(self) -> Attributes:
        return {"gen_ai.operation.name": "chat", **self._about}
