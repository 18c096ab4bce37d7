"""What requests were and cost, counted for Prometheus. Names begin with `chat_agent_`; times are in seconds."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.http.stats import RequestStats

# Requests that stream last as long as the model speaks; tools and first tokens are quicker.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
QUICK_BUCKETS = REQUEST_BUCKETS[:-2]
# Paths by their beginnings; others count as one, since anybody can ask for any.
ROUTES = (
    "/v1/chat/completions", "/v1/responses", "/v1/conversations", "/v1/models", "/v1/sessions", "/agent", "/docs",
    "/redoc", "/openapi.json", "/login", "/health", "/ready", "/metrics",
)  # fmt: skip


MAX_TOOL_NAMES = 256


class Metrics:
    """The counts of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._tool_names: set[str] = set()
        self._requests = Counter("chat_agent_requests", "Requests.", ["route", "status", "key"], registry=registry)
        self._seconds = _histogram("request_seconds", "How long they took.", ["route"], registry, REQUEST_BUCKETS)
        self._tokens = Counter(
            "chat_agent_tokens", "Tokens of the model.", ["direction", "model", "key"], registry=registry
        )
        self._first_token = _histogram("first_token_seconds", "How long answers took to begin.", ["model"], registry)
        self._tools = _histogram("tool_seconds", "How long tools took.", ["tool", "failed"], registry)
        self._wrong_keys = Counter("chat_agent_wrong_keys", "Requests with a wrong key.", registry=registry)

    def count(self, stats: RequestStats, *, path: str, status: int | None, key: str, seconds: float) -> None:
        """Count a request that is done; without a status its client left before there was one."""
        route = next((known for known in ROUTES if path == known or path.startswith(f"{known}/")), "other")
        self._requests.labels(route, str(status or "left"), key).inc()
        self._seconds.labels(route).observe(seconds)
        for tool in stats.tools:
            self._tools.labels(self._tool_label(tool.name), str(tool.failed).lower()).observe(tool.seconds)
        if stats.model:
            if stats.first_token is not None:
                self._first_token.labels(stats.model).observe(stats.first_token)
            for direction, tokens in (("input", stats.input_tokens), ("output", stats.output_tokens)):
                self._tokens.labels(direction, stats.model, key).inc(tokens)

    def _tool_label(self, name: str) -> str:
        """Return a tool's name; of very many names, since a model may invent some, the later ones are one."""
        if len(self._tool_names) < MAX_TOOL_NAMES:
            self._tool_names.add(name)
        return name if name in self._tool_names else "other"

    def count_wrong_key(self) -> None:
        """Count a key that is none of ours."""
        self._wrong_keys.inc()


def _histogram(
    name: str, about: str, labels: Sequence[str], registry: CollectorRegistry, buckets: Sequence[float] = QUICK_BUCKETS
) -> Histogram:
    return Histogram(f"chat_agent_{name}", about, labels, registry=registry, buckets=buckets)
