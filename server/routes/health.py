"""GET /health and /ready."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import asdict

import openai
from fastapi import APIRouter
from langchain_core.runnables import RunnableConfig
from starlette.responses import JSONResponse

from server.errors import as_api_error
from server.services import ServicesDep

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

PROBE: RunnableConfig = {"configurable": {"thread_id": "00000000-0000-0000-0000-000000000000"}}


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "healthy"}


@router.get("/ready")
async def ready(services: ServicesDep) -> JSONResponse:
    """Say what works: `ready`, `degraded` without some tools, `unavailable` (503) without model or database."""
    model, checkpointer = await asyncio.gather(
        _state(services.assembly.model.names()), _state(services.assembly.checkpointer.aget_tuple(PROBE))
    )
    servers = services.assembly.toolbox.health()
    if model["state"] == checkpointer["state"] == "ready":
        status = "ready" if all(server.state == "ready" for server in servers.values()) else "degraded"
    else:
        status = "unavailable"
    return JSONResponse(
        {
            "status": status,
            "model": model,
            "checkpointer": checkpointer,
            "mcp": {name: asdict(server) for name, server in servers.items()},
        },
        status_code=503 if status == "unavailable" else 200,
    )


async def _state(check: Awaitable[object]) -> dict[str, str | None]:
    try:
        await check
    except Exception as error:
        log.warning("Not ready: %s", error, exc_info=not isinstance(error, openai.OpenAIError))
        return {"state": "down", "error": as_api_error(error).message}
    return {"state": "ready", "error": None}
