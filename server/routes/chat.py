"""POST /v1/chat/completions."""

from uuid import uuid4

from fastapi import APIRouter, Request
from langchain_core.messages import AnyMessage, BaseMessage, SystemMessage
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
    check_supported(body)
    context, messages = load_request(body, services)
    run = start_run(body, request, services, context, messages)
    return await run_response(run, body, request.receive, client_tools=context.client_tool_names)


def start_run(
    body: ChatRequest, request: Request, services: Services, context: TurnContext, messages: list[AnyMessage]
) -> Run[BaseMessage]:
    """Start the request as a turn of its session, or beside it where nothing of it is to be kept."""
    name = named_session(request.headers, body.model_dump(), services.session_headers)
    mode = session_mode(request.headers, name)
    session = session_of(request, name.id if name else request.state.session_id)
    if body.store is False or is_side_task(messages, name):
        return services.runs.start(str(uuid4()), run_unstored(services.assembly, messages, context))
    turn = Turn(session=session, mode=mode, messages=messages, context=context)
    return services.runs.start(session.thread_id, run_turn(services.assembly, services.index, turn))


def load_request(body: ChatRequest, services: Services) -> tuple[TurnContext, list[AnyMessage]]:
    """Return what the request asks for itself, system messages included, and its other messages."""
    messages = load_messages(body.messages)
    instructions = [str(message.text) for message in messages if isinstance(message, SystemMessage)]
    context = TurnContext(
        instructions=tuple(instructions),
        client_tools=tuple(body.client_tools()),
        parameters={**body.parameters(), "model": services.models.resolve(body.model)},
    )
    return context, [message for message in messages if not isinstance(message, SystemMessage)]
