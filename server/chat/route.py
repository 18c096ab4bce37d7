"""POST /v1/chat/completions."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request
from langchain_core.messages import AnyMessage, SystemMessage
from starlette.responses import Response

from graph.state import TurnContext
from server.chat.request import ChatRequest
from server.chat.response import Completion
from server.docs.document import may_fail
from server.errors import InvalidRequest
from server.http.complaints import check_supported
from server.http.event_stream import run_response
from server.http.json_body import JsonRoute
from server.messages.convert import instructions, load_messages, unpaired
from server.messages.tool_results import UnpairedMessage, check_paired
from server.sessions.dependencies import Services, ServicesDep, session_of
from server.sessions.naming import SessionName, is_side_task, is_temporary, named_session, session_mode
from server.sessions.runs import Run
from server.sessions.turn import Turn, TurnRequest

router = APIRouter(tags=["chat"], route_class=JsonRoute)


@router.post(
    "/v1/chat/completions",
    response_model=Completion,
    responses=may_fail(400, 401, 402, 404, 409, 413, 415, 429, 500, 502, 503, 504),
)
async def create_chat_completion(body: ChatRequest, request: Request, services: ServicesDep) -> Response:
    """Answer a conversation, as one JSON object or, with `stream`, as server-sent events."""
    name = named_session(request.headers, body.model_dump(include={"session_id", "metadata"}), services.session_headers)
    session = session_of(request, name.id if name else request.state.session_id)
    check_supported(body)
    messages = load_messages(body.messages)
    if name is None and (waiting := await services.index.waiting_for(session.principal, messages)):
        name, session = SessionName(waiting.id), session_of(request, waiting.id)
    turn = TurnRequest(
        session=session,
        is_named=name is not None,
        mode=session_mode(request.headers, name),
        messages=[message for message in messages if not isinstance(message, SystemMessage)],
        context=TurnContext(
            instructions=instructions(messages),
            client_tools=tuple(body.client_tools()),
            tool_choice=body.choice(),
            parameters={**body.parameters(), "model": await services.models.resolve(body.model)},
        ),
        refuse=partial(unpaired, messages),
    )
    if is_stored(body, messages, name):
        runs = [services.runs.start(turn.session.thread_id, Turn(turn, services.assembly, services.index).run())]
    else:
        runs = start_unstored(turn, body.n or 1, services)
    return await run_response(runs, body, request.receive)


def start_unstored(turn: TurnRequest, n: int, services: Services) -> list[Run]:
    """Start `n` runs of a turn of which nothing is kept, all at once.

    Raises:
        InvalidRequest: tool results without their calls, or calls without all of their results.
    """
    try:
        check_paired(turn.messages)
    except UnpairedMessage as error:
        raise turn.refuse(error) from error
    agent = services.assembly.agent
    return services.runs.start_together([agent.run(turn.messages, turn.context) for _ in range(n)])


def is_stored(body: ChatRequest, messages: Sequence[AnyMessage], name: SessionName | None) -> bool:
    """Say whether the turn is to be kept: not one that its client does not keep, nor one with several answers.

    Raises:
        InvalidRequest: several answers are asked for in a session, which goes on from one.
    """
    if body.store is False or is_side_task(messages, name) or is_temporary(name):
        return False
    if body.n in (None, 1):
        return True
    if name or body.store:
        message = "Only n=1 is supported in a session. Name none, or send 'store': false, for more answers."
        raise InvalidRequest(message, param="n", code="unsupported_value")
    return False
