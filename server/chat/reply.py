"""The answer to a chat completion: chunks as server-sent events, or one JSON object."""

from collections.abc import AsyncGenerator, AsyncIterator

import orjson
from starlette.responses import Response

from server.chat.chunks import Json, collect, dump_chunks
from server.chat.request import ChatRequest, StreamOptions
from server.http.event_stream import frame
from server.http.foreign_errors import as_api_error
from server.sessions.reply import Choices

DONE = b"data: [DONE]\n\n"


class ChatReply:
    """The reply that a request asks for."""

    def __init__(self, body: ChatRequest) -> None:
        self._asked, self._model = body.stream_options or StreamOptions(), body.model
        self.is_streamed = bool(body.stream)

    async def encode(self, choices: Choices) -> AsyncGenerator[bytes]:
        """Yield the chunks as frames; the stream ends with a finish reason or an error, and with [DONE]."""
        try:
            async for chunk in self._chunks(choices):
                yield frame(chunk)
        except Exception as error:
            yield frame(as_api_error(error).envelope())
        yield DONE

    async def collect(self, choices: Choices) -> Response:
        """Return the completion."""
        completion = await collect(self._chunks(choices))
        return Response(orjson.dumps(completion), media_type="application/json")

    def _chunks(self, choices: Choices) -> AsyncIterator[Json]:
        return dump_chunks(
            choices,
            model=self._model,
            include_usage=not self.is_streamed or bool(self._asked.include_usage),
            include_tool_events=bool(self._asked.include_tool_events),
        )
