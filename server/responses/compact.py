"""POST /v1/responses/compact: a conversation as a summary, which is an item that later requests may begin with.

Source: Open Responses, `CompactResource`.
"""

import time
from base64 import b64encode
from functools import partial
from typing import Literal

from fastapi import Request
from langchain_core.messages.ai import UsageMetadata, add_usage
from pydantic import StrictStr
from starlette.responses import Response

from graph.event_queue import EventQueue
from graph.events import MessageEnded, Text
from graph.window import Window
from server.errors import may_fail
from server.http.json_body import encoded
from server.http.routing import Router
from server.messages.shapes import Lenient
from server.models import ModelsDep
from server.responses.asked import whole_request
from server.responses.background import BackgroundDep
from server.responses.ids import item_id, new_response_id
from server.responses.items import TextOrItems
from server.responses.request import ResponseRequest
from server.responses.resource import dump_usage
from server.responses.response import ResponseUsage, Shape
from server.sessions.dependencies import SessionsDep
from server.sessions.reply import Choices, collected
from server.sessions.turn_request import TurnRequest

router = Router(tags=["responses"])


class CompactRequest(Lenient):
    """The conversation to be summarized: items, or a stored chain with items after it."""

    model: StrictStr
    """One of `/v1/models`; it makes the summary."""
    input: TextOrItems | None = None
    """A user's message, or items."""
    previous_response_id: StrictStr | None = None
    """The response at the end of the chain; it is not changed."""
    instructions: StrictStr | None = None
    """What the summary must heed."""


class Summary(Shape):
    """A summary, which this server reads again where it comes as an item of the input."""

    id: str
    type: Literal["compaction"]
    encrypted_content: str
    """The summary, in base64."""


class CompactedResponse(Shape):
    """A summary in place of a conversation. It is not stored."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    """In Unix seconds."""
    output: list[Summary]
    """The item that stands for the conversation."""
    usage: ResponseUsage
    """The tokens that the summary took."""


@router.post(
    "/v1/responses/compact",
    response_model=CompactedResponse,
    responses=may_fail(400, 401, 402, 404, 409, 413, 415, 429, 500, 502, 503, 504),
)
async def compact_response(
    body: CompactRequest, request: Request, sessions: SessionsDep, models: ModelsDep, background: BackgroundDep
) -> Response:
    """Summarize a conversation; nothing is stored."""
    asked = ResponseRequest(
        model=body.model,
        input=body.input,
        previous_response_id=body.previous_response_id,
        instructions=body.instructions,
    )
    whole = await whole_request(asked, request, sessions, models, background)
    runs = sessions.runs.start_together([partial(_summarize, sessions.assembly.window, whole)])
    return await collected(runs, partial(_compacted, new_response_id()), request.receive)


async def _summarize(window: Window, turn: TurnRequest, queue: EventQueue) -> None:
    """Tell the queue a summary of a turn's messages as one text."""
    text, usage = await window.summary(turn.messages, turn.context.instructions, turn.context.parameters)
    queue.tell(Text(None, text))
    queue.tell(MessageEnded(None, None, usage))
    await queue.all_taken()


async def _compacted(response_id: str, choices: Choices) -> Response:
    """Return the summary that a run tells, as the item that stands for the conversation."""
    texts: list[str] = []
    usage: UsageMetadata | None = None
    async for events in choices[0]:
        for event in events:
            match event:
                case Text(text=text):
                    texts.append(text)
                case MessageEnded():
                    usage = add_usage(usage, event.usage)
    summary = {"type": "compaction", "encrypted_content": b64encode("".join(texts).encode()).decode()}
    compacted = {
        "id": response_id,
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [{"id": item_id(response_id, "compaction", 0, "o"), **summary}],
        "usage": dump_usage(usage),
    }
    return Response(encoded(compacted), media_type="application/json")
