"""/agent/invoke and /agent/stream, LangServe's REST door: `langserve.RemoteRunnable` is its client."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.errors import ApiError
from server.json_body import JsonRoute
from server.replies import EventStream
from server.runnable import PATH, Messages, api_handler, body_of, run_conversation, while_connected
from server.services import Services
from server.sessions import named_session

router = APIRouter(
    prefix=PATH, include_in_schema=False, route_class=JsonRoute
)  # LangServe describes it by schemas of its own


async def answer(messages: Messages, request: Request) -> AsyncGenerator[str]:
    """Yield the text of the answer, in the session that a header names."""
    services: Services = request.app.state.services
    try:
        name = named_session(request.headers, {}, services.session_headers)
        async with aclosing(run_conversation(messages, name, request)) as texts:
            async for text in texts:
                yield text
    except ApiError as error:
        request.state.failure = error
        raise


handler = api_handler(answer, with_request=lambda *_: None)


@router.post("/invoke")
async def invoke(request: Request) -> Response:
    """Answer the input's messages."""
    await body_of(request)
    return await while_connected(request, handler.invoke(request))


@router.post("/stream")
async def stream(request: Request) -> Response:
    """Answer the input's messages as LangServe's events."""
    await body_of(request)
    events: Any = (await handler.stream(request)).body_iterator
    return EventStream(_told_of_failures(events, request), "An answer of /agent/stream")


@router.get("/input_schema")
async def input_schema(request: Request) -> Any:
    """Describe what to send."""
    return await handler.input_schema(request)


@router.get("/output_schema")
async def output_schema(request: Request) -> Any:
    """Describe what comes back."""
    return await handler.output_schema(request)


async def _told_of_failures(events: AsyncGenerator[dict[str, str]], request: Request) -> AsyncGenerator[dict[str, str]]:
    """Yield LangServe's events, with our errors in place of its own."""
    async with aclosing(events):
        try:
            async for event in events:
                if event["event"] == "error" and (error := getattr(request.state, "failure", None)):
                    event["data"] = json.dumps({"status_code": error.status_code, "message": error.message})
                yield event
        except ApiError:
            pass  # it was told; raised, it would be logged as a defect
