"""Where a request for a response goes on: its session, the turn that it names, and the items that it refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from server.errors import InvalidRequest, NotFound, SessionBusy
from server.http.identity import RequestState, SessionName, checked_id
from server.responses.background import Background
from server.responses.ids import response_of
from server.responses.items import CompactionItem, Item, MessageItem, ReferenceItem
from server.responses.request import ResponseRequest
from server.sessions.dependencies import Sessions
from server.sessions.naming import Session, named_in_body, session_mode
from server.sessions.reconcile import After, KnownTurn, Mode
from server.sessions.records import unknown_parent
from server.sessions.responses import StoredResponse

ITEM: TypeAdapter[Item] = TypeAdapter(Item)
CONTINUED = {"completed", "incomplete"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request goes on."""

    name: SessionName | None
    """The session that the request names, by whatever it names it."""
    mode: Mode | After
    turn: KnownTurn | None = None
    """The turn that it follows, where it says so; under the session's lock it may be another one."""
    standing: Sequence[str] = ()
    """What system messages of the chain have said."""
    items: Sequence[Item]
    """The items of its input, those that it referred to among them."""


async def find_place(
    body: ResponseRequest, headers: Mapping[str, str], state: RequestState, sessions: Sessions, background: Background
) -> Place:
    """Find where a request goes on.

    Raises:
        InvalidRequest: it follows a response that is not stored, or was not answered; or it names two sessions.
        SessionBusy: it follows a response that is still in progress.
        NotFound: it names a conversation or an item that is not stored.
    """
    name = state.session_name or named_in_body(body.model_dump(include={"session_id", "metadata"}))
    items, referred = await _resolved(body, state.principal, sessions)
    if body.previous_response_id is not None:
        found = await sessions.responses.get(state.principal, body.previous_response_id)
        if found is None:
            raise unknown_parent(body.previous_response_id)
        stored = await background.settled(found)
        turn = _continued(stored)
        session = _only(stored.session, name, "previous_response_id")
        standing = stored.answered.standing
        if any(isinstance(item, CompactionItem) for item in items):  # it stands for the chain
            return Place(name=session, mode="full", standing=standing, items=items)
        return Place(name=session, mode=After(stored.answered.id), turn=turn, standing=standing, items=items)
    if body.conversation_id is not None:
        session_id = checked_id(body.conversation_id, "conversation")
        conversation = Session(state.principal, session_id)
        if await sessions.get(conversation) is None:
            raise NotFound(
                f"Conversation with id '{session_id}' not found.", param="conversation", code="conversation_not_found"
            )
        newest, standing = await sessions.responses.newest(conversation)
        session = _only(conversation, name, "conversation")
        return Place(name=session, mode=After(), turn=newest, standing=standing, items=items)
    if name is None and referred:
        return Place(name=SessionName(referred.session.id), mode="full", items=items)
    return Place(name=name, mode=session_mode(headers, name), items=items)


def _continued(stored: StoredResponse) -> KnownTurn:
    """Return the turn of a response that is to be continued."""
    response_id, status = stored.answered.id, stored.answered.status
    if status == "in_progress":
        message = f"The response '{response_id}' is still in progress. Try again when it has ended."
        raise SessionBusy(message, code="response_in_progress", headers={"Retry-After": "1"})
    if status not in CONTINUED:
        message = f"The response '{response_id}' is {status}; only an answered one can be continued."
        raise InvalidRequest(message, param="previous_response_id", code="invalid_value")
    if stored.turn is None:
        raise unknown_parent(response_id)
    return stored.turn


def _only(session: Session, name: SessionName | None, param: str) -> SessionName:
    """Return a session's name, unless the request names another session too; programs' own headers do not count."""
    if name and not name.third_party and name.id != session.id:
        message = f"'{param}' is of session {session.id!r}, and the request names session {name.id!r} too."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return SessionName(session.id)


async def _resolved(
    body: ResponseRequest, principal: str, sessions: Sessions
) -> tuple[Sequence[Item], StoredResponse | None]:
    """Return the items of the input without references, and the response whose items came last among them."""
    if body.input is None or isinstance(body.input, str):
        return ([MessageItem(role="user", content=body.input)] if body.input else []), None
    named = [response_of(item.id) for item in body.input]
    ids = list(dict.fromkeys(filter(None, named)))
    stored = await sessions.responses.among(principal, ids) if ids else {}
    known: dict[str, Any] = {item["id"]: item for response in stored.values() for item in response.items}
    items: list[Item] = []
    for index, item in enumerate(body.input):
        if not isinstance(item, ReferenceItem):
            items.append(item)
        elif item.id in known:
            items.append(ITEM.validate_python(known[item.id]))
        else:
            raise NotFound(f"Item with id '{item.id}' not found.", param=f"input[{index}].id", code="item_not_found")
    last = next((stored[name] for name in reversed(named) if name and name in stored), None)
    return items, last
