"""GET /health and /ready."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from server.errors import AgentError, may_fail
from server.http.foreign_errors import as_api_error
from server.sessions.dependencies import SessionsDep
from tools.mcp.health import ServerHealth

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


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
