"""A WebSocket at /v1/responses: each `response.create` on it is a request, and each event of the answer a message.

A message is answered by the app itself, as the request that it stands for: with the headers of the connection, the same
keys, limits, sessions and errors. So there is one way to make a response.

What a connection adds is its memory: the last response, which a request with `store: false` may go on after.

Source: Open Responses, WebSocket mode; OpenAI's guide to it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.types import ASGIApp, Message

from server.errors import ApiError, InvalidRequest, RateLimited
from server.http.json_body import encoded
from server.responses.told import END

Json = dict[str, Any]

router = APIRouter()

PATH = "/v1/responses"
MAX_SECONDS = 60 * 60
# Messages that wait for the response in progress.
MAX_WAITING = 32
# Headers of the handshake that are not those of the requests, beside its own.
OF_THE_CONNECTION = (b"connection", b"upgrade", b"content-length", b"content-type", b"transfer-encoding")
OF_THE_HANDSHAKE = b"sec-websocket-"
DATA = b"\ndata: "
ENDED = ("response.completed", "response.incomplete")


@dataclass(frozen=True)
class Memory:
    """The last response of a connection, where nothing else keeps it."""

    response_id: str
    follows: str | None
    """The stored response that it goes back to, if it does."""
    items: list[Json]
    """What was said since."""


@router.websocket(PATH)
async def respond_over_websocket(socket: WebSocket) -> None:
    """Answer the messages of a connection one after the other, for an hour at the most."""
    await socket.accept()
    connection = Connection(socket)
    reading = asyncio.create_task(connection.read())
    try:
        async with asyncio.timeout(MAX_SECONDS):
            await connection.answer_all()
    except TimeoutError:
        message = "A connection lasts 60 minutes. Make a new one to go on."
        await connection.tell_error(InvalidRequest(message, code="websocket_connection_limit_reached"))
        await socket.close()
    except WebSocketDisconnect:
        pass
    finally:
        reading.cancel()
        await asyncio.wait({reading})


class Connection:
    """The messages of a WebSocket, and what it remembers."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._left = socket, asyncio.Event()
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._memory: Memory | None = None

    async def read(self) -> None:
        """Take in messages until the client leaves."""
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                if self._waiting.qsize() < MAX_WAITING:
                    given = message.get("text") or (message.get("bytes") or b"").decode(errors="replace")
                    self._waiting.put_nowait(given)
                else:
                    words = f"{MAX_WAITING} messages wait for the response in progress. Try again when it is done."
                    await self.tell_error(RateLimited(words, "requests", retry_after=1))
        finally:
            self._left.set()
            self._waiting.put_nowait(None)

    async def answer_all(self) -> None:
        """Answer messages until the client leaves.

        Raises:
            WebSocketDisconnect: it has left in the middle of an answer.
        """
        while (message := await self._waiting.get()) is not None and not self._left.is_set():
            try:
                asked = load_message(message)
            except InvalidRequest as error:
                await self.tell_error(error)
            else:
                await self._answer(asked)

    async def tell_error(self, error: ApiError) -> None:
        """Send an error."""
        await self._send({"type": "error", "status": error.status_code, **error.envelope()})

    async def _answer(self, asked: Json) -> None:
        """Answer a request, and remember the response if nothing else does."""
        memory = self._memory
        goes_on = memory is not None and asked.get("previous_response_id") == memory.response_id
        body = going_on(asked, memory) if memory and goes_on else asked
        response: Json | None = None
        exchange = Exchange({**body, "stream": True}, self._left)
        answering = asyncio.create_task(exchange.run(self._socket.app, self._socket.scope))
        try:
            async with aclosing(exchange.events()) as events:
                async for event in events:
                    await self._send(event)
                    response = event["response"] if event["type"] in ENDED else response
        except WebSocketDisconnect:
            self._left.set()
            raise
        finally:
            await asyncio.wait({answering})
        if response is None:
            self._memory = None if goes_on else memory
        elif response["store"]:
            self._memory = None
        else:
            said = [*items_of(body.get("input")), *response["output"]]
            self._memory = Memory(response["id"], body.get("previous_response_id"), said)

    async def _send(self, event: Json) -> None:
        await self._socket.send_text(encoded(event).decode())


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


def load_message(text: str) -> Json:
    """Return the request in a message.

    Raises:
        InvalidRequest: it has none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The message is not valid JSON.", code="invalid_json") from error
    match message:
        case {"type": "response.create", "generate": False}:
            raise InvalidRequest(
                "'generate' must be true: this server has nothing to warm up.",
                param="generate",
                code="unsupported_parameter",
            )
        case {"type": "response.create", **asked}:
            return {str(name): value for name, value in asked.items() if name != "generate"}
    raise InvalidRequest(
        "A message must be an object of the type 'response.create'.", param="type", code="invalid_value"
    )


def going_on(asked: Json, memory: Memory) -> Json:
    """Return a request that goes on after a response that nothing else keeps, with what was said before it."""
    return {**asked, "previous_response_id": memory.follows, "input": [*memory.items, *items_of(asked.get("input"))]}


def items_of(given: object) -> list[Json]:
    """Return a request's input as items."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given if isinstance(given, list) else []


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
