"""POST /v1/responses/compact: a conversation as a summary, which is an item that later requests may begin with.

Source: Open Responses, `CompactResource`.
"""

import time
from base64 import b64encode
from functools import partial
from typing import Literal

from fastapi import APIRouter, Request
from langchain_core.messages.ai import UsageMetadata, add_usage
from pydantic import StrictStr
from starlette.responses import Response

from graph.event_queue import EventQueue
from graph.events import MessageEnded, Text
from graph.state import TurnContext
from graph.window import Window
from server.errors import may_fail
from server.http.identity import state_of
from server.http.json_body import JsonRoute, encoded
from server.messages.shapes import Lenient
from server.models import ModelsDep
from server.responses.background import BackgroundDep
from server.responses.ids import item_id, new_response_id
from server.responses.items import TextOrItems
from server.responses.messages import load_items, unpaired
from server.responses.place import find_place
from server.responses.request import ResponseRequest
from server.responses.resource import dump_usage
from server.responses.response import ResponseUsage, Shape
from server.responses.support import check_supported
from server.sessions.dependencies import SessionsDep, claim_session
from server.sessions.reply import Choices, collected
from server.sessions.stored_messages import after_stored_turn
from server.sessions.turn_request import TurnRequest

router = APIRouter(tags=["responses"], route_class=JsonRoute)


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
    state = state_of(request.scope)
    asked = ResponseRequest(model=body.model, input=body.input, previous_response_id=body.previous_response_id)
    check_supported(asked)
    place = await find_place(asked, request.headers, state, sessions, background)
    session = claim_session(request, place.name.id if place.name else state.session_id)
    response_id = new_response_id()
    given, chosen = load_items(place.items, response_id), await models.resolve(body.model)
    turn = TurnRequest(
        agent=chosen.agent,
        session=session,
        mode=place.mode_of(given),
        messages=given.messages,
        context=TurnContext(
            instructions=tuple(filter(None, [body.instructions, *given.standing])), parameters={"model": chosen.model}
        ),
        refuse=unpaired,
        quota=state.quota,
    )
    whole = await after_stored_turn(turn, place.turn, sessions.assembly) if place.turn else turn
    runs = sessions.runs.start_together([partial(_summarize, sessions.assembly.window, whole)])
    return await collected(runs, partial(_compacted, response_id), request.receive)


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
