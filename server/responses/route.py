"""Under /v1/responses: create, retrieve and delete a response, and list what it was made from."""

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response

from server.errors import ApiError, InvalidRequest, NotFound, may_fail
from server.http.event_stream import EventStream
from server.http.identity import RequestState, SessionName, state_of
from server.http.json_body import encoded
from server.http.routing import Router
from server.messages.values import MAX_INTEGER
from server.models import ModelsDep
from server.responses.asked import context_of
from server.responses.background import Background, BackgroundDep
from server.responses.ids import item_id, new_response_id
from server.responses.item_list import AfterItem, Limit, Order, items_before, page_of
from server.responses.messages import load_items, unpaired
from server.responses.place import Place, find_place
from server.responses.reply import ResponseReply
from server.responses.request import ResponseRequest
from server.responses.resource import Resource
from server.responses.response import ItemList, ResponseDeleted, ResponseObject
from server.responses.support import check_supported
from server.sessions.approval import form_of
from server.sessions.dependencies import Sessions, SessionsDep, claim_session
from server.sessions.limits import check_quota
from server.sessions.naming import is_side_task, is_temporary
from server.sessions.reply import run_response
from server.sessions.responses import StoredResponse
from server.sessions.runs import Run
from server.sessions.stored_messages import after_stored_turn
from server.sessions.turn_request import TurnRequest

router = Router(prefix="/v1/responses", tags=["responses"])

ResponseId = Annotated[str, Path(description="The response's id.", max_length=200)]


@router.post(
    "",
    response_model=ResponseObject,
    responses=may_fail(400, 401, 402, 404, 409, 413, 415, 429, 500, 502, 503, 504),
)
async def create_response(
    body: ResponseRequest, request: Request, sessions: SessionsDep, models: ModelsDep, background: BackgroundDep
) -> Response:
    """Answer a conversation, as one JSON object or, with `stream`, as server-sent events."""
    state = state_of(request.scope)
    check_supported(body)
    place = await find_place(body, request.headers, state, sessions, background)
    name, response_id = place.name, new_response_id()
    session = claim_session(request, name.id if name else state.session_id)
    given = load_items(place.items, response_id)
    if name is None and (waiting := await sessions.index.waiting_for(session.principal, given.messages)):
        name, session = SessionName(waiting.id), claim_session(request, waiting.id)
    chosen = await models.resolve(body.model)
    sessions.check_tools(chosen.agent, body.client_tools())
    is_kept = body.is_stored and not is_side_task(given.messages, name) and not is_temporary(name)
    resource = Resource(response_id, body, given, is_kept=is_kept)
    turn = TurnRequest(
        agent=chosen.agent,
        session=session,
        mode=place.mode_of(given),
        messages=given.messages,
        context=context_of(body, given, chosen.model),
        refuse=unpaired,
        standing=given.standing,
        quota=state.quota,
        ask=sessions.asking(
            form_of(request.headers, has_tool=body.can_approve, otherwise="item"),
            session,
            lambda place: item_id(response_id, "mcp_approval_request", place, "a"),
        ),
        record=resource.record,
    )
    if body.background and is_kept:
        return await _begin(turn, resource, body, state, sessions, background)
    run = sessions.start(turn) if is_kept else await _start_unstored(turn, place, sessions)
    keep = partial(sessions.responses.keep_failed, session) if is_kept else None
    reply = ResponseReply(resource, is_streamed=bool(body.stream), keep=keep)
    try:
        return await run_response([run], reply, request.receive)
    except ApiError as error:
        error.param = "input" if error.param == "messages" else error.param
        raise


async def _begin(
    turn: TurnRequest,
    resource: Resource,
    body: ResponseRequest,
    state: RequestState,
    sessions: Sessions,
    background: Background,
) -> Response:
    """Answer with a response that is made after the answer, or with its stream, which its reader may leave."""
    if turn.quota:
        await check_quota(sessions.index, turn.session, turn.quota)
    start = partial(sessions.start, turn)
    recording = await background.begin(resource, turn.session, start, is_streamed=bool(body.stream))
    state.goes_on = recording.task
    if body.stream:
        return EventStream(recording.follow(-1), f"The stream of {resource.id}")
    return Response(encoded(resource.begun()), media_type="application/json")


async def _start_unstored(turn: TurnRequest, place: Place, sessions: Sessions) -> Run:
    if place.turn:
        turn = await after_stored_turn(turn, place.turn, sessions.assembly)
    [run] = sessions.start_unstored(turn)
    return run


@router.get("/{response_id}", response_model=ResponseObject, responses=may_fail(400, 401, 404))
async def retrieve_response(
    response_id: ResponseId,
    request: Request,
    sessions: SessionsDep,
    background: BackgroundDep,
    stream: Annotated[bool, Query(description="Only of a response that was made in the background.")] = False,
    starting_after: Annotated[
        int, Query(description="With `stream`: the number of the last event that is known.", ge=-1, le=MAX_INTEGER)
    ] = -1,
) -> Response:
    """Return a stored response, or its events from the first one, or after one, to the end."""
    stored = await background.settled(await _stored(response_id, request, sessions))
    if not stream:
        return Response(stored.answered.resource, media_type="application/json")
    if not stored.is_streamed:
        message = "Only a response that was made in the background, as a stream, can be streamed again."
        raise InvalidRequest(message, param="stream", code="invalid_value")
    again = partial(_stored, response_id, request, sessions)
    return EventStream(background.follow(stored, starting_after, again), f"The stream of {response_id}")


@router.delete("/{response_id}", responses=may_fail(400, 401, 404))
async def delete_response(
    response_id: ResponseId, request: Request, sessions: SessionsDep, background: BackgroundDep
) -> ResponseDeleted:
    """Delete a response; its turn stays in its session, and so do the responses that follow it."""
    stored = await background.settled(await _stored(response_id, request, sessions))
    if stored.answered.status == "in_progress":
        message = "The response is still in progress. Cancel it first: POST /v1/responses/{id}/cancel."
        raise InvalidRequest(message, param="response_id", code="response_in_progress")
    await sessions.responses.delete(stored)
    return ResponseDeleted(id=stored.answered.id)


@router.post("/{response_id}/cancel", response_model=ResponseObject, responses=may_fail(400, 401, 404))
async def cancel_response(
    response_id: ResponseId, request: Request, sessions: SessionsDep, background: BackgroundDep
) -> Response:
    """Cancel a response that is made in the background; what was said until then is kept."""
    again = partial(_stored, response_id, request, sessions)
    stored = await background.settled(await again())
    if not stored.resource["background"]:
        raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id", code="invalid_value")
    if stored.answered.status == "in_progress":
        stored = await background.cancel(stored, again)
    if stored.answered.status != "cancelled":
        message = f"Cannot cancel a response that is {stored.answered.status}."
        raise InvalidRequest(message, param="response_id", code="invalid_value")
    return Response(stored.answered.resource, media_type="application/json")


@router.get("/{response_id}/input_items", responses=may_fail(400, 401, 404))
async def list_input_items(
    response_id: ResponseId,
    request: Request,
    sessions: SessionsDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: AfterItem = None,
) -> ItemList:
    """List what a response was made from: the conversation before it, and its own input."""
    stored = await _stored(response_id, request, sessions)
    return page_of(await items_before(stored, sessions), limit=limit, order=order, after=after)


async def _stored(response_id: str, request: Request, sessions: Sessions) -> StoredResponse:
    stored = await sessions.response(state_of(request.scope).principal, response_id)
    if stored is None:
        raise NotFound(f"Response with id '{response_id}' not found.", param="response_id", code="response_not_found")
    claim_session(request, stored.session.id)
    return stored
