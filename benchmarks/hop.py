"""The floor of the benchmarks: a hop that passes requests on to the endpoint, looks at nothing and stores nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

ENDPOINT = os.environ["OLLAMA_BASE_URL"]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one client for all requests.

    httpx looks at each idle connection with every request. It keeps 20, as by itself, and none for the next load.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=1)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        app.state.client = client
        yield


async def completions(request: Request) -> Response:
    """Pass a request on, and its answer back."""
    client: httpx.AsyncClient = request.app.state.client
    asked = client.build_request(
        "POST",
        f"{ENDPOINT}/chat/completions",
        content=await request.body(),
        headers={"content-type": "application/json"},
    )
    answer = await client.send(asked, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        answer.status_code,
        media_type=answer.headers["content-type"],
        background=BackgroundTask(answer.aclose),
    )


app = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])], lifespan=lifespan)
