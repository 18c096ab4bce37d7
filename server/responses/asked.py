"""A request of the Responses API as the sessions take it: messages, and what the turn asks for."""

from fastapi import Request

from graph.state import TurnContext
from server.http.identity import state_of
from server.models import Models
from server.responses.background import Background
from server.responses.ids import new_response_id
from server.responses.messages import Input, load_items, unpaired
from server.responses.place import find_place
from server.responses.request import ResponseRequest
from server.responses.support import check_supported
from server.sessions.dependencies import Sessions, claim_session
from server.sessions.stored_messages import after_stored_turn
from server.sessions.turn_request import TurnRequest


def context_of(body: ResponseRequest, given: Input, model: str) -> TurnContext:
    """Return what a request asks for its turn, beside its messages; `model` is the endpoint's name of the model."""
    return TurnContext(
        instructions=tuple(filter(None, [body.instructions, *given.standing])),
        client_tools=tuple(body.client_tools()),
        tool_choice=body.choice(),
        max_tool_calls=body.max_tool_calls,
        truncation=body.truncation or "auto",
        compact_threshold=body.compact_threshold,
        parameters={**body.parameters(), "model": model},
    )


async def whole_request(
    body: ResponseRequest, request: Request, sessions: Sessions, models: Models, background: Background
) -> TurnRequest:
    """Return a request of which nothing is stored, with the whole conversation that it goes on with.

    Raises:
        ApiError: it asks for what is not there, or its calls and outputs do not fit together.
    """
    state = state_of(request.scope)
    check_supported(body)
    place = await find_place(body, request.headers, state, sessions, background)
    given, chosen = load_items(place.items, new_response_id()), await models.resolve(body.model)
    turn = TurnRequest(
        agent=chosen.agent,
        session=claim_session(request, place.name.id if place.name else state.session_id),
        mode=place.mode_of(given),
        messages=given.messages,
        context=context_of(body, given, chosen.model),
        refuse=unpaired,
        quota=state.quota,
    )
    return await after_stored_turn(turn, place.turn, sessions.assembly) if place.turn else turn
