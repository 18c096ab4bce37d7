"""One request to the app itself, for a message of a WebSocket, and the events of its answer."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import anyio
from starlette.types import ASGIApp, Message

from server.http.json_body import encoded
from server.responses.told import END

Json = dict[str, Any]

PATH = "/v1/responses"
# Headers of the handshake that are not those of the requests, beside its own.
OF_THE_CONNECTION = (b"connection", b"upgrade", b"content-length", b"content-type", b"transfer-encoding")
OF_THE_HANDSHAKE = b"sec-websocket-"
DATA = b"\ndata: "


class Exchange:
    """One request to the app, and the events of its answer.

    Args:
        body: the request.
        left: set when the client has left.
    """

    def __init__(self, body: Json, left: asyncio.Event) -> None:
        self._body, self._left = encoded(body), left
        self._is_sent = False
        self._status = 200
        self._parts, self._read = anyio.create_memory_object_stream[bytes](0)

    async def run(self, app: ASGIApp, handshake: Mapping[str, Any]) -> None:
        """Have the app answer, as a request with the headers of the handshake."""
        async with self._parts:
            with suppress(anyio.BrokenResourceError):  # nobody reads the rest
                await app(request_scope(handshake, len(self._body)), self._receive, self._send)

    async def events(self) -> AsyncGenerator[Json]:
        """Yield the events; an answer that is an error is one."""
        rest = b""
        async with self._read:
            async for part in self._read:
                rest += part
                if self._status == 200:
                    *frames, rest = rest.split(END)
                    for frame in frames:
                        if data := frame.partition(DATA)[2]:
                            yield json.loads(data)
        if self._status != 200:
            yield {"type": "error", "status": self._status, **json.loads(rest)}

    async def _receive(self) -> Message:
        if self._is_sent:
            await self._left.wait()
            return {"type": "http.disconnect"}
        self._is_sent = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif part := message.get("body", b""):
            await self._parts.send(part)


def request_scope(handshake: Mapping[str, Any], length: int) -> Json:
    """Return the scope of a request of so many bytes over a connection."""
    headers = [
        (name, value)
        for name, value in handshake["headers"]
        if name not in OF_THE_CONNECTION and not name.startswith(OF_THE_HANDSHAKE)
    ]
    own = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    kept = {name: handshake[name] for name in ("asgi", "client", "server", "root_path") if name in handshake}
    return {
        **kept,
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https" if handshake["scheme"] == "wss" else "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [*headers, *own],
        "state": dict(handshake.get("state", {})),
        "extensions": {},
    }
