"""POST /v1/chat/completions."""

from collections.abc import Sequence
from functools import partial

from fastapi import Request
from langchain_core.messages import AnyMessage, SystemMessage
from starlette.responses import Response

from graph.state import TurnContext
from server.chat.reply import ChatReply
from server.chat.request import ChatRequest
from server.chat.response import Completion
from server.chat.support import check_supported
from server.errors import InvalidRequest, may_fail
from server.http.identity import SessionName, state_of
from server.http.routing import Router
from server.messages.convert import instructions, load_messages, unpaired
from server.models import ModelsDep
from server.sessions.approval import form_of
from server.sessions.dependencies import SessionsDep, claim_session
from server.sessions.naming import is_side_task, is_temporary, named_in_body, session_mode
from server.sessions.reply import run_response
from server.sessions.turn_request import TurnRequest

router = Router(tags=["chat"])


@router.post(
    "/v1/chat/completions",
    response_model=Completion,
    responses=may_fail(400, 401, 402, 404, 409, 413, 415, 429, 500, 502, 503, 504),
)
async def create_chat_completion(
    body: ChatRequest, request: Request, sessions: SessionsDep, models: ModelsDep
) -> Response:
    """Answer a conversation, as one JSON object or, with `stream`, as server-sent events."""
    state = state_of(request.scope)
    name = state.session_name or named_in_body(body.model_dump(include={"session_id", "metadata"}))
    session = claim_session(request, name.id if name else state.session_id)
    check_supported(body)
    messages = load_messages(body.messages)
    if name is None and (waiting := await sessions.index.waiting_for(session.principal, messages)):
        name, session = SessionName(waiting.id), claim_session(request, waiting.id)
    chosen = await models.resolve(body.model)
    sessions.check_tools(chosen.agent, body.client_tools())
    turn = TurnRequest(
        agent=chosen.agent,
        session=session,
        mode=session_mode(request.headers, name),
        messages=[message for message in messages if not isinstance(message, SystemMessage)],
        context=TurnContext(
            instructions=instructions(messages),
            client_tools=tuple(body.client_tools()),
            tool_choice=body.choice(),
            parameters={**body.parameters(), "model": chosen.model},
        ),
        refuse=partial(unpaired, messages),
        quota=state.quota,
        ask=sessions.asking(form_of(request.headers, has_tool=body.can_approve, otherwise="text"), session),
    )
    is_kept = is_stored(body, messages, name)
    runs = [sessions.start(turn)] if is_kept else sessions.start_unstored(turn, body.n or 1)
    return await run_response(runs, ChatReply(body), request.receive)


def is_stored(body: ChatRequest, messages: Sequence[AnyMessage], name: SessionName | None) -> bool:
    """Say whether the turn is stored: not if its client does not keep it, nor with several answers.

    Raises:
        InvalidRequest: several answers are asked for in a session, which can only go on from one.
    """
    if body.store is False or is_side_task(messages, name) or is_temporary(name):
        return False
    if body.n in (None, 1):
        return True
    if name or body.store:
        message = "Only n=1 is supported in a session. Name none, or send 'store': false, for more answers."
        raise InvalidRequest(message, param="n", code="unsupported_value")
    return False
