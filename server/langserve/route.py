"""/agent/invoke and /agent/stream, LangServe's REST routes; `langserve.RemoteRunnable` is the client."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from server.errors import ApiError
from server.http.event_stream import EventStream, one_line
from server.http.routing import Router
from server.langserve.runnable import PATH, api_handler, asked_in, read_conversation, run_conversation, while_connected

router = Router(prefix=PATH, include_in_schema=False)  # LangServe has schema routes of its own


async def answer(request: Request) -> AsyncGenerator[str]:
    """Yield the text of the answer, and note the error for the code that tells the client."""
    try:
        async with aclosing(run_conversation(request)) as texts:
            async for text in texts:
                yield text
    except ApiError as error:
        asked_in(request).failure = error
        raise


def _with_run_id(config: dict[str, Any], request: Request) -> None:
    if session_id := asked_in(request).page_session:
        config["run_id"] = UUID(session_id)


handler = api_handler(answer, _with_run_id)


@router.post("/invoke")
async def invoke(request: Request) -> Response:
    """Answer the input's messages."""
    await read_conversation(request)
    return await while_connected(request, handler.invoke(request))


@router.post("/stream")
async def stream(request: Request) -> Response:
    """Answer the input's messages as LangServe's events."""
    await read_conversation(request)
    return AnswerStream(await handler.stream(request), request)


class AnswerStream(EventStream):
    """LangServe's events as a stream of ours."""

    def __init__(self, response: Any, request: Request) -> None:
        super().__init__(_frames(response.body_iterator, request), f"An answer of {request.url.path}")
        self._asked = asked_in(request)

    def reader_left(self) -> None:
        """Stop the run."""
        if self._asked.run:
            self._asked.run.stop()


@router.get("/input_schema")
async def input_schema(request: Request) -> Any:
    """Describe what to send."""
    return await handler.input_schema(request)


@router.get("/output_schema")
async def output_schema(request: Request) -> Any:
    """Describe what comes back."""
    return await handler.output_schema(request)


async def _frames(events: AsyncGenerator[dict[str, str]], request: Request) -> AsyncGenerator[bytes]:
    """Encode LangServe's events, with our errors instead of its own, each line readable by lenient readers."""
    async with aclosing(events):
        try:
            async for event in events:
                if event["event"] == "error" and (error := asked_in(request).failure):
                    event["data"] = json.dumps({"status_code": error.status_code, "message": error.message})
                lines = [name.encode() + b": " + one_line(value.encode()) + b"\n" for name, value in event.items()]
                yield b"".join(lines) + b"\n"
        except ApiError:
            pass  # the client was told; raised, it would be logged as a defect
