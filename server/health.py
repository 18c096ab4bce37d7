"""GET /health, /ready and /metrics: how the server is."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Iterator
from typing import Literal

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, SecretStr

from server.errors import AgentError, Unauthorized, may_fail
from server.http.admission import Room
from server.http.foreign_errors import as_api_error
from server.http.guard import given_key
from server.http.metrics import Metrics
from server.http.routing import Router
from server.http.sites import from_own_page, host_name
from server.sessions.dependencies import Sessions, SessionsDep
from tools.addresses import is_loopback
from tools.mcp.health import ServerHealth

log = logging.getLogger(__name__)

# What proxies add to requests, some of them.
PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")

router = Router(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["healthy"] = "healthy"


class PartHealth(BaseModel):
    """The state of the model endpoint, or of the database."""

    state: Literal["ready", "down"]
    error: str | None = None


class Readiness(BaseModel):
    """Which parts work; `mcp` has the MCP servers by their names."""

    status: Literal["ready", "degraded", "unavailable"]
    model: PartHealth
    checkpointer: PartHealth
    mcp: dict[str, ServerHealth]


@router.get("/health")
async def health() -> Health:
    """Say that the process answers."""
    return Health()


@router.get(
    "/ready", responses={**may_fail(401), 503: {"model": Readiness, "description": "Without model or database."}}
)
async def ready(sessions: SessionsDep, response: Response) -> Readiness:
    """Say which parts work: `ready`, `degraded` without some tools, `unavailable` (503) without model or database."""
    model, checkpointer = await asyncio.gather(
        _state(sessions.assembly.model.check()), _state(sessions.assembly.checkpointer.check_writable())
    )
    servers = sessions.assembly.toolbox.health()
    if model.state == checkpointer.state == "ready":
        degraded = any(server.state != "ready" for server in servers.values())
        return Readiness(
            status="degraded" if degraded else "ready", model=model, checkpointer=checkpointer, mcp=servers
        )
    response.status_code = 503
    return Readiness(status="unavailable", model=model, checkpointer=checkpointer, mcp=servers)


async def _state(check: Awaitable[object]) -> PartHealth:
    try:
        await check
    except Exception as error:
        answer = as_api_error(error)
        log.warning("Not ready: %s", answer.message, exc_info=isinstance(answer, AgentError))
        return PartHealth(state="down", error=answer.message)
    return PartHealth(state="ready")


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, sessions: SessionsDep) -> Response:
    """Tell all counts: to the holder of METRICS_KEY, or, without one, to this machine alone."""
    state = request.app.state
    try:
        check_reader(request, state.settings.metrics_key)
    except Unauthorized:
        if given_key(request.headers):
            await state.guesses.slow_down(request.scope)
        raise
    counted: Metrics = state.metrics
    now = CollectorRegistry()
    now.register(Now(sessions, state.room, await sessions.index.count()))
    text = generate_latest(counted.registry) + generate_latest(now)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def check_reader(request: Request, key: SecretStr | None) -> None:
    """Let in whoever may read the counts.

    Raises:
        Unauthorized: the key is not the one of METRICS_KEY; or there is none, and the request is not of this machine.
    """
    if key is not None:
        given = given_key(request.headers)
        if hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
            return
    elif is_local(request):
        return
    raise Unauthorized(
        "The metrics are for the holder of METRICS_KEY, or without one for the machine itself.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def is_local(request: Request) -> bool:
    """Say whether a request comes from this machine, and not through a proxy on it, or from a page."""
    if request.client is None or any(name in request.headers for name in PROXIES) or not from_own_page(request.headers):
        return False
    return is_loopback(request.client.host) and is_loopback(host_name(request.headers.get("host", "")) or "")


class Now(Collector):
    """How the parts are at this moment."""

    def __init__(self, sessions: Sessions, room: Room, stored: int) -> None:
        self._sessions, self._room, self._stored = sessions, room, stored

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield _gauge("runs", "Runs in progress, those that wait for their session included.", len(self._sessions.runs))
        yield _gauge("queued_requests", "Requests that wait until fewer are answered.", self._room.waiting)
        yield _gauge("sessions", "Stored sessions.", self._stored)
        database = CounterMetricFamily("chat_agent_database_seconds", "Time of its threads.", labels=["work"])
        pieces = CounterMetricFamily("chat_agent_database_pieces", "Pieces of work of the database.", labels=["work"])
        for work, (count, seconds) in self._sessions.assembly.checkpointer.database.times.items():
            database.add_metric([work], seconds)
            pieces.add_metric([work], count)
        yield from (database, pieces)
        is_up = GaugeMetricFamily("chat_agent_mcp_server_up", "Whether an MCP server is ready.", labels=["server"])
        tools = GaugeMetricFamily("chat_agent_mcp_tools", "The tools that it offers.", labels=["server"])
        for name, server in self._sessions.assembly.toolbox.health().items():
            is_up.add_metric([name], server.state == "ready")
            tools.add_metric([name], server.tools)
        yield from (is_up, tools)


def _gauge(name: str, about: str, value: float) -> Metric:
    gauge = GaugeMetricFamily(f"chat_agent_{name}", about)
    gauge.add_metric([], value)
    return gauge
