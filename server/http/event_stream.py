"""Answers that several handlers give: errors in the envelope, and runs as event streams."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.chat.chunks import collect, dump_chunks
from server.chat.frames import DONE, chunk_frame, error_frame
from server.chat.request import ChatRequest, StreamOptions
from server.chat.response import AgentEvent, Chunk
from server.errors import ApiError
from server.http.foreign_errors import as_api_error
from server.sessions.runs import Run

log = logging.getLogger(__name__)

PING_INTERVAL = 15
SEND_TIMEOUT = 30
# Streams may go on for so long when the server is told to stop; then their runs are stopped and say so.
DRAIN_SECONDS = 15
CUT_OFF_SECONDS = DRAIN_SECONDS + 3


def error_response(error: ApiError) -> Response:
    """Answer with the envelope."""
    return Response(
        json.dumps(error.envelope()),
        status_code=error.status_code,
        headers=error.headers,
        media_type="application/json",
    )


class EventStream(EventSourceResponse):
    """Server-sent events. They may go on for a while when the server ends, but not where nobody reads them."""

    def __init__(self, events: AsyncIterable[Any], name: str) -> None:
        super().__init__(
            events,
            media_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-cache"},
            sep="\n",
            ping=PING_INTERVAL,
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
            send_timeout=SEND_TIMEOUT,
            shutdown_event=anyio.Event(),
            shutdown_grace_period=CUT_OFF_SECONDS,
        )
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            # uvicorn closes the connection of an answer that has no end.
            log.warning("%s is cut off: its reader took nothing for %s s.", self._name, self.send_timeout)


class RunStream(EventStream):
    """Runs as an event stream: they end with it."""

    def __init__(self, runs: Sequence[Run], chunks: AsyncIterator[Chunk | AgentEvent]) -> None:
        super().__init__(frames(chunks), runs[0].task.get_name())
        self._runs = runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and stop the runs if their reader leaves first."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for run in self._runs:
                run.stop()
            for run in self._runs:
                await run.aclose()


async def frames(chunks: AsyncIterator[Chunk | AgentEvent]) -> AsyncGenerator[bytes]:
    """Encode the chunks; whatever happens, the stream ends with a finish reason or an error, and with [DONE]."""
    try:
        async for chunk in chunks:
            yield chunk_frame(chunk)
    except Exception as error:
        yield error_frame(as_api_error(error))
    yield DONE


async def run_response(runs: Sequence[Run], body: ChatRequest, receive: Receive) -> Response:
    """Answer with the runs, a choice for each; a failure before the first event is a status, which can be retried.

    A stream whose model is slow to begin begins without it, so that its first comment comes before proxies give up.

    Runs that nobody waits for any more are stopped, and have ended when this returns or raises.
    """
    asked = body.stream_options or StreamOptions()
    async with AsyncExitStack() as ending:
        for run in runs:
            await ending.enter_async_context(aclosing(run))
        async with on_disconnect(receive, *(run.stop for run in runs)):
            chunks = dump_chunks(
                [run.events() for run in runs],
                model=body.model,
                include_usage=not body.stream or bool(asked.include_usage),
                include_tool_events=bool(asked.include_tool_events),
            )
            if not body.stream:
                completion = await collect(chunks)
                return Response(completion.model_dump_json(exclude_unset=True), media_type="application/json")
            await runs[0].begun(within=PING_INTERVAL)
        ending.pop_all()  # from here on the stream ends the runs
        return RunStream(runs, chunks)


@asynccontextmanager
async def on_disconnect(receive: Receive, *stops: Callable[[], object]) -> AsyncIterator[None]:
    """Call these when the client leaves: Starlette tells a handler, whose request was read, nothing of it."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for stop in stops:
            stop()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait({watcher})
