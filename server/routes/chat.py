"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request
from langchain_core.messages import SystemMessage
from starlette.responses import Response

from graph.state import TurnContext
from server.messages import load_messages
from server.replies import run_response
from server.services import Services, ServicesDep, thread_of
from server.sessions import named_session
from server.turns import Turn, run_turn
from server.validation import check_supported
from server.wire import ChatRequest

router = APIRouter(tags=["chat"])


@router.post("/v1/chat/completions")
async def create_chat_completion(body: ChatRequest, request: Request, services: ServicesDep) -> Response:
    """Answer a conversation, as one JSON object or, with `stream`, as server-sent events."""
    check_supported(body)
    turn = load_turn(body, request, services)
    run = services.runs.start(turn.thread_id, run_turn(services.assembly, turn))
    return await run_response(run, body, request.receive)


def load_turn(body: ChatRequest, request: Request, services: Services) -> Turn:
    """Return the request as a turn of its session."""
    model = services.models.resolve(body.model)
    messages = load_messages(body.messages)
    session_id = named_session(request.headers, body.model_dump()) or request.state.session_id
    return Turn(
        thread_id=thread_of(request, session_id),
        messages=[message for message in messages if not isinstance(message, SystemMessage)],
        context=TurnContext(
            instructions=tuple(str(message.text) for message in messages if isinstance(message, SystemMessage)),
            parameters={**body.parameters(), "model": model},
        ),
    )
