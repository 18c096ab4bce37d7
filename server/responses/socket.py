"""A WebSocket at /v1/responses: each `response.create` on it is a request, and each event of the answer a message.

A message is answered by the app itself, as the request that it stands for: with the headers of the connection, the same
keys, limits, sessions and errors. So there is one way to make a response.

What a connection adds is its memory: the last response, which a request with `store: false` may go on after.

Source: Open Responses, WebSocket mode; OpenAI's guide to it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from server.errors import ApiError, InvalidRequest, RateLimited
from server.http.json_body import encoded, parsed
from server.http.routing import Router
from server.responses.exchange import PATH, Exchange

Json = dict[str, Any]

router = Router()

MAX_SECONDS = 60 * 60
# Messages that wait for the response in progress; together they have no more bytes than a request may have.
MAX_WAITING = 32
# The code of a connection that is closed since the server ends (RFC 6455, IANA's registry).
SERVICE_RESTART = 1012
# The fields of a request that say what it follows.
FOLLOWING = ("previous_response_id", "conversation")
ENDED = ("response.completed", "response.incomplete")


@dataclass(frozen=True)
class Memory:
    """The last response of a connection, where nothing else keeps it."""

    response_id: str
    follows: Json
    """The fields of a request that name the stored response, or the conversation, that it goes back to."""
    items: list[Json]
    """What was said since."""


class Sockets:
    """The open WebSockets of a server."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._is_ending = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def one_more(self, connection: "Connection") -> Iterator[None]:
        """Count a connection while it is open."""
        self._open.add(connection)
        if self._is_ending:
            connection.end()
        try:
            yield
        finally:
            self._open.discard(connection)

    def end(self) -> None:
        """Close all of them: at once, or after the answer that is in progress."""
        self._is_ending = True
        for connection in self._open:
            connection.end()


@router.websocket(PATH)
async def respond_over_websocket(socket: WebSocket) -> None:
    """Answer the messages of a connection one after the other, for an hour at the most."""
    await socket.accept()
    connection = Connection(socket)
    reading = asyncio.create_task(connection.read())
    try:
        with socket.app.state.sockets.one_more(connection):
            async with asyncio.timeout(MAX_SECONDS):
                await connection.answer_all()
            if not connection.has_left:
                await socket.close(SERVICE_RESTART)
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
        self._settings = socket.app.state.settings
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._bytes_waiting = 0
        self._memory: Memory | None = None
        self._is_ending = False

    @property
    def has_left(self) -> bool:
        """Whether the client has left."""
        return self._left.is_set()

    def end(self) -> None:
        """Answer no more messages than the one in progress, since the server ends."""
        self._is_ending = True
        self._waiting.put_nowait(None)

    async def read(self) -> None:
        """Take in messages until the client leaves."""
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                given = message.get("bytes") or (message.get("text") or "").encode()
                if (
                    self._waiting.qsize() < MAX_WAITING
                    and self._bytes_waiting + len(given) <= self._settings.max_request_bytes
                ):
                    self._bytes_waiting += len(given)
                    self._waiting.put_nowait(given)
                else:
                    words = "Too many messages wait for the response in progress. Try again when it is done."
                    await self.tell_error(RateLimited(words, "requests", retry_after=1))
        finally:
            self._left.set()
            self._waiting.put_nowait(None)

    async def answer_all(self) -> None:
        """Answer messages until the client leaves, or the server ends.

        Raises:
            WebSocketDisconnect: it has left in the middle of an answer.
        """
        while (message := await self._waiting.get()) is not None and not (self.has_left or self._is_ending):
            self._bytes_waiting -= len(message)
            try:
                asked = load_request(await parsed(message, self._settings.max_values))
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
            self._memory = Memory(response["id"], {name: body.get(name) for name in FOLLOWING}, said)

    async def _send(self, event: Json) -> None:
        await self._socket.send_text(encoded(event).decode())


def load_request(message: object) -> Json:
    """Return the request in a message.

    Raises:
        InvalidRequest: it has none.
    """
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
    return {**asked, **memory.follows, "input": [*memory.items, *items_of(asked.get("input"))]}


def items_of(given: object) -> list[Json]:
    """Return a request's input as items."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given if isinstance(given, list) else []
