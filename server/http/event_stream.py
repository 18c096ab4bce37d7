"""Server-sent events, and clients that leave before they are answered."""

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

PING_INTERVAL = 15
SEND_TIMEOUT = 30
# Seconds for which streams go on at shutdown; then their runs are stopped, and the streams say so.
DRAIN_SECONDS = 15
CUT_OFF_SECONDS = DRAIN_SECONDS + 3

# Characters that lenient readers take for the end of a line, besides those that JSON escapes itself: httpx's
# `iter_lines`, and so LangServe's client, splits like Python's `splitlines`.
LINE_ENDS = re.compile("[\x85\u2028\u2029]")


def frame(data: str) -> bytes:
    """Encode JSON as one event: a `data:` line only, since clients fail on ids and event names."""
    return f"data: {one_line(data)}\n\n".encode()


def one_line(text: str) -> str:
    """Return JSON text without any character that a reader may take for the end of a line."""
    return text if text.isascii() else LINE_ENDS.sub(lambda end: f"\\u{ord(end[0]):04x}", text)


class EventStream(EventSourceResponse):
    """Server-sent events. They have a grace period when the server ends; a reader that stalls is dropped."""

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
            # Not sending the body's end makes uvicorn close the connection.
            log.warning("%s is cut off: its reader took nothing for %s s.", self._name, self.send_timeout)


@asynccontextmanager
async def on_disconnect(receive: Receive, *stops: Callable[[], object]) -> AsyncIterator[None]:
    """Call these when the client leaves; Starlette does not tell a handler that has read its request."""

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
