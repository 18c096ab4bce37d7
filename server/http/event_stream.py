"""Server-sent events, and clients that leave before they are answered."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from time import monotonic

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

PING_INTERVAL = 15
SEND_TIMEOUT = 30
# Seconds for which streams go on at shutdown; then their runs are stopped, and the streams say so.
DRAIN_SECONDS = 15
MIN_PAUSE = 0.01
PING = b": ping\n\n"

# Characters that lenient readers take for the end of a line, besides those that JSON escapes itself: httpx's
# `iter_lines`, and so LangServe's client, splits like Python's `splitlines`.
LINE_ENDS = re.compile("|".join("\x85\u2028\u2029").encode())


def frame(data: object) -> bytes:
    """Encode a JSON value as one event: a `data:` line only, since clients fail on ids and event names."""
    return b"data: " + one_line(orjson.dumps(data)) + b"\n\n"


def one_line(text: bytes) -> bytes:
    """Return JSON in UTF-8 without any character that a reader may take for the end of a line."""
    return text if text.isascii() else LINE_ENDS.sub(_escaped, text)


def _escaped(end: re.Match[bytes]) -> bytes:
    return f"\\u{ord(end[0].decode()):04x}".encode()


class EventStream(Response):
    """Server-sent events. While there are none, comments keep the connection alive; a reader that stalls is dropped.

    Args:
        frames: the encoded events; they are no longer asked for when the reader leaves.
        name: what the log calls the stream.
    """

    media_type = "text/event-stream"
    ping_interval: float = PING_INTERVAL
    send_timeout: float = SEND_TIMEOUT

    def __init__(self, frames: AsyncGenerator[bytes], name: str) -> None:
        self.status_code, self.background = 200, None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._frames, self._name = frames, name
        self._sent_at, self._sending = 0.0, 0
        self._pings: set[asyncio.Task[None]] = set()
        self._is_left = False

    def reader_left(self) -> None:
        """Stop what makes the frames: AnyIO's cancellation comes late to a task whose frames are always there."""

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._sent_at = monotonic()
        # In a task of its own: Python would otherwise resume all middlewares for each frame, which takes as long as the
        # frame itself.
        sending = asyncio.create_task(self._send_all(send))

        def leave() -> None:
            self._is_left = True
            self.reader_left()
            sending.cancel()

        watcher = asyncio.create_task(self._watch(receive, send, leave))
        try:
            await sending
        except asyncio.CancelledError:
            if not self._is_left:
                raise
        finally:
            for task in (watcher, *self._pings):
                task.cancel()
        if not sending.cancelled():
            await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for body in frames:
                await self._send(body, send)

    async def _send(self, body: bytes, send: Send) -> None:
        self._sent_at = monotonic()
        self._sending += 1
        try:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self._sending -= 1

    async def _watch(self, receive: Receive, send: Send, leave: Callable[[], None]) -> None:
        """Keep the connection alive, and leave when the reader is gone or stalls."""
        while True:
            due = self._sent_at + (self.send_timeout if self._sending else self.ping_interval)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(min(due - monotonic(), self.send_timeout), MIN_PAUSE)):
                    if (await receive())["type"] == "http.disconnect":
                        return leave()
            idle = monotonic() - self._sent_at
            if self._sending and idle >= self.send_timeout:
                # Not sending the body's end makes uvicorn close the connection.
                log.warning("%s is cut off: its reader took nothing for %s s.", self._name, self.send_timeout)
                return leave()
            if not self._sending and idle >= self.ping_interval:
                ping = asyncio.create_task(self._send(PING, send))  # which waits, too, for a reader that takes nothing
                ping.add_done_callback(self._pings.discard)
                self._pings.add(ping)


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
