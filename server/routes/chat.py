"""POST /v1/chat/completions."""

from uuid import uuid4

from fastapi import APIRouter, Request
from langchain_core.messages import BaseMessage, SystemMessage
from starlette.responses import Response

from graph.state import TurnContext
from server.messages import load_messages
from server.replies import run_response
from server.runs import Run
from server.services import Services, ServicesDep, session_of
from server.sessions import is_side_task, named_session, session_mode
from server.turns import Turn, run_turn, run_unstored
from server.validation import check_supported
from server.wire import ChatRequest

router = APIRouter(tags=["chat"])


@router.post("/v1/chat/completions")
async def create_chat_completion(body: ChatRequest, request: Request, services: ServicesDep) -> Response:
    """Answer a conversation, as one JSON object or, with `stream`, as server-sent events."""
    run = start_run(await load_turn(body, request, services), services)
    return await run_response(run, body, request.receive)


async def load_turn(body: ChatRequest, request: Request, services: Services) -> Turn:
    """Return the request as a turn of its session; system messages are asked for this turn alone."""
    name = named_session(request.headers, body.model_dump(include={"session_id", "metadata"}), services.session_headers)
    session = session_of(request, name.id if name else request.state.session_id)
    check_supported(body)
    messages = load_messages(body.messages)
    if name is None and (waiting := await services.index.waiting_for(session.principal, messages)):
        session = session_of(request, waiting.id)
    client_tools = tuple(body.client_tools())
    context = TurnContext(
        instructions=tuple(str(message.text) for message in messages if isinstance(message, SystemMessage)),
        client_tools=client_tools,
        tool_choice=body.forced_choice() if client_tools else None,
        parameters={**body.parameters(), "model": await services.models.resolve(body.model)},
    )
    return Turn(
        session=session,
        mode=session_mode(request.headers, name),
        stored=body.store is not False and not is_side_task(messages, name),
        messages=[message for message in messages if not isinstance(message, SystemMessage)],
        context=context,
        positions={message.id: position for position, message in enumerate(messages)},
    )


def start_run(turn: Turn, services: Services) -> Run[BaseMessage]:
    """Start the turn in its session, or beside it where nothing of it is to be kept."""
    if turn.stored:
        return services.runs.start(turn.session.thread_id, run_turn(services.assembly, services.index, turn))
    turn.check_paired()
    return services.runs.start(str(uuid4()), run_unstored(services.assembly, turn.messages, turn.context))
