"""Under /v1/conversations: sessions by another name, whose items can be listed, added and taken out.

Source: OpenAI's published OpenAPI document, `Conversation`.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import Path, Request
from langchain_core.messages import AnyMessage
from pydantic import Field, TypeAdapter

from graph.state import OUR_AGENT, TurnContext
from server.errors import ApiError, NotFound, SessionBusy, may_fail
from server.http.identity import ID, state_of
from server.http.routing import Router
from server.messages.shapes import Lenient
from server.messages.values import Metadata
from server.responses.ids import new_response_id
from server.responses.item_list import AfterItem, Limit, Order, items_of_session, page_of, without
from server.responses.items import Item
from server.responses.messages import Input, load_items, unpaired
from server.responses.place import known_conversation, resolved
from server.responses.response import ItemList, Shape
from server.sessions.dependencies import Sessions, SessionsDep, claim_session
from server.sessions.limits import check_quota
from server.sessions.naming import Session
from server.sessions.reconcile import Addition
from server.sessions.records import ADDED, AnsweredResponse
from server.sessions.turn_request import TurnRequest

router = Router(prefix="/v1/conversations", tags=["conversations"])

Json = dict[str, Any]

ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])
ConversationId = Annotated[
    str, Path(description="The conversation's id: that of a session.", json_schema_extra={"pattern": ID})
]
ItemId = Annotated[str, Path(description="The item's id.", max_length=200)]
Items = Annotated[list[Item], Field(max_length=20)]


class NewConversation(Lenient):
    """What a conversation begins with."""

    items: Items | None = None
    """The first items; at most 20."""
    metadata: Metadata | None = None
    """At most 16 pairs."""


class NewItems(Lenient):
    """Items to be added."""

    items: Items
    """At most 20."""


class ConversationUpdate(Lenient):
    """What is noted of a conversation."""

    metadata: Metadata | None
    """At most 16 pairs; they replace those before."""


class ConversationObject(Shape):
    """A conversation."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    """In Unix seconds."""
    metadata: dict[str, str]
    """What its owner noted of it."""


class ConversationItem(Lenient):
    """An item, with what its type has."""

    id: str
    type: str


class ConversationDeleted(Shape):
    """A conversation that is gone."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


@router.post("", responses=may_fail(400, 401, 404, 413, 415, 429, 503))
async def create_conversation(
    request: Request, sessions: SessionsDep, body: NewConversation | None = None
) -> ConversationObject:
    """Begin a conversation, which responses go on in by its id."""
    body = body or NewConversation()
    session, quota = claim_session(request, f"conv_{uuid4().hex}"), state_of(request.scope).quota
    if quota:
        await check_quota(sessions.index, session, quota)
    await sessions.conversations.make(session, body.metadata or {})
    try:
        await _add(body.items or (), session, request, sessions)
    except ApiError:
        await sessions.delete(session)
        raise
    return await _described(session, sessions)


@router.get("/{conversation_id}", responses=may_fail(400, 401, 404))
async def retrieve_conversation(
    conversation_id: ConversationId, request: Request, sessions: SessionsDep
) -> ConversationObject:
    """Describe a conversation."""
    return await _described(await _known(conversation_id, request, sessions), sessions)


@router.post("/{conversation_id}", responses=may_fail(400, 401, 404, 413, 415))
async def update_conversation(
    conversation_id: ConversationId, body: ConversationUpdate, request: Request, sessions: SessionsDep
) -> ConversationObject:
    """Note something else of a conversation."""
    session = await _known(conversation_id, request, sessions)
    await sessions.conversations.note(session, body.metadata or {})
    return await _described(session, sessions)


@router.delete("/{conversation_id}", responses=may_fail(400, 401, 404, 409))
async def delete_conversation(
    conversation_id: ConversationId, request: Request, sessions: SessionsDep
) -> ConversationDeleted:
    """Delete a conversation, its responses and all that was kept of it; a run in it is stopped."""
    session = await _known(conversation_id, request, sessions)
    await sessions.delete(session)
    return ConversationDeleted(id=session.id)


@router.get("/{conversation_id}/items", responses=may_fail(400, 401, 404))
async def list_conversation_items(
    conversation_id: ConversationId,
    request: Request,
    sessions: SessionsDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: AfterItem = None,
) -> ItemList:
    """List the items of the newest branch."""
    session = await _known(conversation_id, request, sessions)
    return page_of(await items_of_session(session, sessions), limit=limit, order=order, after=after)


@router.post("/{conversation_id}/items", responses=may_fail(400, 401, 404, 409, 413, 415, 429, 503))
async def create_conversation_items(
    conversation_id: ConversationId, body: NewItems, request: Request, sessions: SessionsDep
) -> ItemList:
    """Add items to the end of a conversation; nobody answers them."""
    session = await _known(conversation_id, request, sessions)
    added = await _add(body.items, session, request, sessions)
    return page_of(added, limit=100, order="asc", after=None)


@router.get("/{conversation_id}/items/{item_id}", responses=may_fail(400, 401, 404))
async def retrieve_conversation_item(
    conversation_id: ConversationId, item_id: ItemId, request: Request, sessions: SessionsDep
) -> ConversationItem:
    """Return one item."""
    session = await _known(conversation_id, request, sessions)
    items = await items_of_session(session, sessions)
    return ConversationItem.model_validate(items[_place_of(item_id, items)])


@router.delete("/{conversation_id}/items/{item_id}", responses=may_fail(400, 401, 404, 409))
async def delete_conversation_item(
    conversation_id: ConversationId, item_id: ItemId, request: Request, sessions: SessionsDep
) -> ConversationObject:
    """Take an item out: the conversation goes on without it. Responses that were made with it stay as they are."""
    session, response_id = await _known(conversation_id, request, sessions), new_response_id()
    async with sessions.leases.held(session):
        if (newest := await sessions.responses.newest(session)) and newest.awaits:
            message = "A tool call of this conversation waits for approval. Approve or refuse it first."
            raise SessionBusy(message, code="waits_for_approval")
        items = await items_of_session(session, sessions)
        left = without(items, _place_of(item_id, items))
        given = load_items(ITEMS.validate_python(left), response_id, "items", listed=left)
        await sessions.add(await _addition(given, response_id, Addition(is_whole=True), session, request, sessions))
    return await _described(session, sessions)


async def _add(items: Sequence[Item], session: Session, request: Request, sessions: Sessions) -> list[Json]:
    """Add items to the end of a session without an answer, and return them as they are listed."""
    response_id = new_response_id()
    found = await resolved(items, "items", session.principal, sessions)
    given = load_items(found, response_id, "items")
    if not given.items_of_all():
        return []
    async with sessions.leases.held(session):
        await sessions.add(await _addition(given, response_id, Addition(), session, request, sessions))
    return given.items_of_all()


async def _addition(
    given: Input, response_id: str, mode: Addition, session: Session, request: Request, sessions: Sessions
) -> TurnRequest:
    """Return what is added to a session, which is held, in the words of its newest agent."""
    newest = await sessions.responses.newest(session)

    def record(_: object, new: Sequence[AnyMessage], __: object) -> AnsweredResponse:
        resource = {"status": ADDED, "created_at": time.time(), "output": []}
        return AnsweredResponse.of(response_id, resource, given.of(new))

    return TurnRequest(
        agent=newest.agent if newest else OUR_AGENT,
        session=session,
        mode=mode,
        messages=given.messages,
        context=TurnContext(),
        refuse=partial(unpaired, param="items"),
        standing=given.standing,
        quota=state_of(request.scope).quota,
        record=record,
    )


async def _known(conversation_id: str, request: Request, sessions: Sessions) -> Session:
    principal = state_of(request.scope).principal
    session = await known_conversation(conversation_id, "conversation_id", principal, sessions)
    return claim_session(request, session.id)


async def _described(session: Session, sessions: Sessions) -> ConversationObject:
    record = await sessions.get(session)
    created_at = int(record.created_at) if record else 0
    return ConversationObject(
        id=session.id, created_at=created_at, metadata=dict(await sessions.conversations.metadata(session))
    )


def _place_of(item_id: str, items: Sequence[Json]) -> int:
    for place, item in enumerate(items):
        if item["id"] == item_id:
            return place
    raise NotFound(f"Item with id '{item_id}' not found.", param="item_id", code="item_not_found")
