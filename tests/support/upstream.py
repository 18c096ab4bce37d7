"""A model endpoint that speaks OpenAI's wire format over TCP: scripted, and it remembers what it was asked."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A tool call of the model; `arguments` is JSON as text, whole or broken."""

    name: str
    arguments: str
    id: str = "call_0"
    index: int = 0


@dataclass(frozen=True)
class Answer:
    """One answer of the model.

    Pieces are sent one by one, `pause` seconds apart; `hold` keeps the stream open after them until it is closed.
    """

    pieces: Sequence[str] = ()
    calls: Sequence[Call] = ()
    pause: float = 0
    hold: bool = False
    finish_reason: str | None = None
    usage: tuple[int, int] | None = (10, 5)
    status: int = 200
    error: str = ""
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reasoning: Sequence[str] = ()
    reasoning_field: str = "reasoning_content"
    cached: int | None = None


@dataclass(frozen=True)
class Raw:
    """An answer in the endpoint's own bytes; if `cut`, the connection breaks behind them."""

    pieces: Sequence[bytes | str]
    media_type: str = "text/event-stream"
    cut: bool = False


Reply = Answer | Raw | Callable[[Json], Answer | Raw]


class Upstream:
    """The endpoint. Answers come from the script in its order; when that is used up, from `otherwise`."""

    def __init__(self) -> None:
        self.requests: list[Json] = []
        self.models = ["test-model"]
        self.list: Response | None = None
        """What is answered in place of a list of these."""
        self.message_id: str | None = None
        self.listed = 0
        self.keys: list[str | None] = []
        self.traces: list[str | None] = []
        self.headers: list[Mapping[str, str]] = []
        self.peers: list[object] = []
        """The other end of each request's connection."""
        self.closed_early = 0
        self.streaming = 0
        self._script: deque[Reply] = deque()
        self.otherwise: Reply = lambda request: Answer([f"You said: {last_text(request)}"])
        self.v1 = Starlette(
            routes=[Route("/chat/completions", self._complete, methods=["POST"]), Route("/models", self._models)]
        )
        self.app = Starlette(routes=[Mount("/v1", self.v1)])

    def script(self, *replies: Reply) -> None:
        """Queue answers for the next requests."""
        self._script.extend(replies)

    def forget_script(self) -> None:
        """Drop the answers that nobody asked for."""
        self._script.clear()

    @property
    def last(self) -> Json:
        """The newest request."""
        return self.requests[-1]

    async def _models(self, _: Request) -> Response:
        self.listed += 1
        if self.list is not None:
            return self.list
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        self.traces.append(request.headers.get("traceparent"))
        self.headers.append(request.headers)
        self.peers.append(request.client)
        reply = self._script.popleft() if self._script else self.otherwise
        answer = reply(body) if callable(reply) else reply
        if isinstance(answer, Raw):
            return StreamingResponse(self._watched(raw(answer)), media_type=answer.media_type)
        if answer.status != 200:
            error = {"message": answer.error, "type": "invalid_request_error", "param": None, "code": answer.code}
            content = json.dumps({"error": error})  # which can spell half a surrogate pair, unlike JSONResponse
            headers = {"Retry-After-Ms": "1", **answer.headers}  # so that nobody waits before it asks again
            return Response(content, answer.status, headers, media_type="application/json")
        return StreamingResponse(self._watched(stream(answer, self.message_id)), media_type="text/event-stream")

    async def _watched(self, frames: AsyncIterator[str]) -> AsyncIterator[str]:
        self.streaming += 1
        try:
            async for frame in frames:
                yield frame
        except (asyncio.CancelledError, GeneratorExit):
            self.closed_early += 1
            raise
        finally:
            self.streaming -= 1


def last_text(request: Json) -> str:
    """The text of the newest message."""
    return str(request["messages"][-1]["content"])


async def stream(answer: Answer, message_id: str | None = None) -> AsyncIterator[str]:
    """The frames of one answer."""
    yield frame({"role": "assistant", "content": ""} | ({"id": message_id} if message_id else {}))
    for piece in answer.reasoning:
        yield frame({answer.reasoning_field: piece})
    for piece in answer.pieces:
        yield frame({"content": piece})
        await asyncio.sleep(answer.pause)
    for call in answer.calls:
        function = {"name": call.name, "arguments": ""}
        yield frame({"tool_calls": [{"index": call.index, "id": call.id, "type": "function", "function": function}]})
        half = len(call.arguments) // 2
        for part in (call.arguments[:half], call.arguments[half:]):
            yield frame({"tool_calls": [{"index": call.index, "function": {"arguments": part}}]})
    if answer.hold:
        await asyncio.Event().wait()
    if answer.finish_reason != "":
        yield frame({}, answer.finish_reason or ("tool_calls" if answer.calls else "stop"))
    if answer.usage is not None:
        prompt, completion = answer.usage
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            **({"completion_tokens_details": {"reasoning_tokens": 3}} if answer.reasoning else {}),
            **({"prompt_tokens_details": {"cached_tokens": answer.cached}} if answer.cached is not None else {}),
        }
        yield data({"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


async def raw(answer: Raw) -> AsyncIterator[str]:
    """The pieces as they are, each in a packet of its own."""
    for piece in answer.pieces:
        yield piece if isinstance(piece, str) else piece.decode("latin-1")
        await asyncio.sleep(0.01)
    if answer.cut:
        raise ConnectionResetError("the script says so")


def frame(delta: Json, finish_reason: str | None = None) -> str:
    """One chunk."""
    return data({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def data(content: Json) -> str:
    """One frame."""
    head = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}
    return f"data: {json.dumps({**head, **content})}\n\n"
