"""Under /v1/conversations: sessions by another name, whose items can be listed, added and taken out.

Source: OpenAI's published OpenAPI document, `Conversation`.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, TypeAdapter

from graph.state import TurnContext
from server.errors import ApiError, NotFound, may_fail
from server.http.identity import ID, checked_id, state_of
from server.http.json_body import JsonRoute
from server.messages.shapes import Lenient
from server.messages.values import Metadata
from server.responses.ids import new_response_id
from server.responses.item_list import items_of_session, page_of
from server.responses.items import Item
from server.responses.messages import load_items, unpaired
from server.responses.response import ItemList, Shape
from server.sessions.dependencies import Sessions, SessionsDep, claim_session
from server.sessions.naming import Session
from server.sessions.reconcile import After, Mode
from server.sessions.records import ADDED, AnsweredResponse
from server.sessions.turn_request import TurnRequest

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=JsonRoute)

Json = dict[str, Any]

AT_THE_END = After()
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


@router.post("", responses=may_fail(400, 401, 413, 415, 429, 503))
async def create_conversation(
    request: Request, sessions: SessionsDep, body: NewConversation | None = None
) -> ConversationObject:
    """Begin a conversation, which responses go on in by its id."""
    body = body or NewConversation()
    session = claim_session(request, f"conv_{uuid4().hex}")
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
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="From the first, or from the last.")] = "desc",
    after: Annotated[str | None, Query(description="The last id of the page before.")] = None,
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
    session = await _known(conversation_id, request, sessions)
    items = await items_of_session(session, sessions)
    del items[_place_of(item_id, items)]
    await _add(ITEMS.validate_python(items), session, request, sessions, mode="full")
    return await _described(session, sessions)


async def _add(
    items: Sequence[Item], session: Session, request: Request, sessions: Sessions, mode: Mode | After = AT_THE_END
) -> list[Json]:
    """Add items to a session without an answer, and return them as they are listed."""
    response_id = new_response_id()
    given = load_items(items, response_id, "items")
    if not given.of(given.messages) and isinstance(mode, After):
        return []
    newest, standing = await sessions.responses.newest(session)

    def record(_: object, new: Sequence[Any], __: object) -> AnsweredResponse:
        kept = [*standing, *given.standing] if isinstance(mode, After) else given.standing
        resource = {"status": ADDED, "created_at": time.time(), "output": []}
        return AnsweredResponse.of(response_id, resource, given.of(new), kept)

    await sessions.add(
        TurnRequest(
            **({"agent": newest.agent} if newest else {}),
            session=session,
            mode=mode,
            messages=given.messages,
            context=TurnContext(),
            refuse=partial(unpaired, param="items"),
            quota=state_of(request.scope).quota,
            record=record,
        )
    )
    return given.of(given.messages)


async def _known(conversation_id: str, request: Request, sessions: Sessions) -> Session:
    session = claim_session(request, checked_id(conversation_id, "conversation_id"))
    if await sessions.get(session) is None:
        message = f"Conversation with id '{conversation_id}' not found."
        raise NotFound(message, param="conversation_id", code="conversation_not_found")
    return session


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
