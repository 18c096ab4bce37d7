"""The answer to a request for a response, as server-sent events or as one JSON object: the same events, collected."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from typing import Any

from starlette.responses import Response

from graph.events import joined
from server.http.event_stream import one_line
from server.http.foreign_errors import as_api_error
from server.http.json_body import encoded
from server.responses.output import Output
from server.responses.resource import STREAMED_CODES, Resource, dump_error
from server.sessions.records import AnsweredResponse
from server.sessions.reply import Choices

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"

Keep = Callable[[AnsweredResponse], Awaitable[None]]


class ResponseReply:
    """The reply that a request asks for; its run is the only choice.

    Args:
        resource: the response.
        is_streamed: whether it is sent as it comes.
        keep: stores a response that failed, whose id was told.
    """

    def __init__(self, resource: Resource, *, is_streamed: bool, keep: Keep | None = None) -> None:
        self._resource, self.is_streamed, self._keep = resource, is_streamed, keep
        self.ended: Json | None = None
        """The response at its end."""

    async def encode(self, choices: Choices) -> AsyncGenerator[bytes]:
        """Yield the events as frames; the last one tells how the response has ended, and [DONE] follows."""
        output, numbers = self._resource.output(), count()
        try:
            async for event in self._events(choices, output):
                yield frame(event, next(numbers))
        except Exception as error:
            events = list(self._failed(output, error))
            if self._keep and self.ended:
                await self._keep(self._resource.stored(self.ended, self._resource.given.items_of_all()))
            for event in events:
                yield frame(event, next(numbers))
        yield DONE

    async def collect(self, choices: Choices) -> Response:
        """Return the response."""
        output = self._resource.output()
        async for event in self._events(choices, output):
            last = event
        return Response(encoded(last["response"]), media_type="application/json")

    async def _events(self, choices: Choices, output: Output) -> AsyncIterator[Json]:
        """Yield the events of the stream, without their numbers.

        Raises:
            ApiError: the run failed, or was stopped.
        """
        begun = self._resource.begun()
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        async for events in choices[0]:
            for event in joined(events):
                for told in output.of(event):
                    yield told
        for told in output.end():
            yield told
        self.ended = self._resource.ended(output)
        yield last_event(self.ended)

    def _failed(self, output: Output, error: Exception) -> Iterator[Json]:
        told = as_api_error(error)
        yield from output.end()
        self.ended = self._resource.failed(output, told)
        yield last_event({**self.ended, "error": dump_error(told, STREAMED_CODES)})


def last_event(response: Json) -> Json:
    """Return the event that ends the stream of a response, which has ended; a cancelled one has no event of its own."""
    kind = response["status"] if response["status"] in ("completed", "incomplete") else "failed"
    return {"type": f"response.{kind}", "response": response}


def frame(event: Json, number: int) -> bytes:
    """Encode an event of the stream, under its type as its name."""
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + one_line(encoded({**event, "sequence_number": number})) + b"\n\n"
