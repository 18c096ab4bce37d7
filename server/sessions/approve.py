"""POST /v1/sessions/{session_id}/approve: decide about tool calls, from wherever the session can be read."""

from collections.abc import Sequence
from functools import partial

from fastapi import Request
from pydantic import JsonValue, StrictBool, StrictStr
from starlette.responses import Response

from graph.approval import Decision, Decisions
from graph.state import OUR_AGENT, TurnContext
from server.errors import InvalidRequest, may_fail
from server.http.identity import checked_id, state_of
from server.http.routing import Router
from server.messages.convert import dump_messages, unpaired
from server.messages.shapes import Lenient
from server.sessions.approval import AskedCall, unusable_arguments
from server.sessions.dependencies import SessionsDep, claim_session
from server.sessions.reconcile import Approving
from server.sessions.records import unknown_session
from server.sessions.reply import Choices, collected
from server.sessions.route import MessageList, SessionId
from server.sessions.stored_messages import turn_messages
from server.sessions.turn_request import TurnRequest

router = Router(prefix="/v1/sessions", tags=["sessions"])


class CallDecision(Lenient):
    """What a person decided about one call."""

    id: StrictStr
    """The call's, as the session has it."""
    approved: StrictBool
    """Whether it is run."""
    arguments: dict[str, JsonValue] | None = None
    """Arguments to run it with, in place of the model's."""
    reason: StrictStr | None = None
    """Why it is not run; the model is told."""


class ApprovalRequest(Lenient):
    """What a person decided about the calls that a session waits with; `approved` counts for all of them."""

    approved: StrictBool | None = None
    """Whether they are run."""
    decisions: list[CallDecision] | None = None
    """For each call on its own; one that is left out is refused."""


@router.post(
    "/{session_id}/approve",
    response_model=MessageList,
    response_model_exclude_unset=True,
    responses=may_fail(400, 401, 402, 404, 409, 413, 415, 429, 500, 502, 503, 504),
)
async def approve_calls(
    session_id: SessionId, body: ApprovalRequest, request: Request, sessions: SessionsDep
) -> Response:
    """Decide about the tool calls that the session waits with, and return the messages that come of it."""
    session = claim_session(request, checked_id(session_id, "session_id"))
    if await sessions.get(session) is None:
        raise unknown_session(session)
    before = await sessions.index.end_of_branch(session, None)
    turn = TurnRequest(
        agent=before.agent if before else OUR_AGENT,
        session=session,
        mode=Approving(partial(_decided, body)),
        messages=[],
        context=TurnContext(),
        refuse=partial(unpaired, ()),
        quota=state_of(request.scope).quota,
    )

    async def collect(choices: Choices) -> Response:
        async for _ in choices[0]:
            pass
        end = await sessions.index.end_of_branch(session, None)
        known = {message.id for message in await turn_messages(sessions.assembly, session, before)} if before else ()
        messages = await turn_messages(sessions.assembly, session, end) if end else []
        new = MessageList(data=dump_messages([message for message in messages if message.id not in known]))
        return Response(new.model_dump_json(exclude_unset=True), media_type="application/json")

    return await collected([sessions.start(turn)], collect, request.receive)


def _decided(body: ApprovalRequest, asked: Sequence[AskedCall]) -> Decisions:
    """Return what a request decides about the calls that wait.

    Raises:
        InvalidRequest: it decides nothing, or about another call.
    """
    if (body.approved is None) == (body.decisions is None):
        message = "One of 'approved' and 'decisions' must be provided."
        raise InvalidRequest(message, param="approved", code="missing_required_parameter")
    ids = [call.call_id for call in asked]
    for index, given in enumerate(body.decisions or ()):
        if given.id not in ids:
            message = f"No call with id '{given.id}' waits for approval."
            raise InvalidRequest(message, param=f"decisions[{index}].id", code="invalid_value")
    try:
        made = {
            one.id: Decision.checked(approved=one.approved, arguments=one.arguments, reason=one.reason)
            for one in body.decisions or ()
        }
    except ValueError as error:
        raise unusable_arguments(error, "decisions") from error
    if body.approved is not None:
        made = {call: Decision(approved=body.approved) for call in ids}
    return Decisions(message_id=asked[0].message_id, calls=made)
