"""Where a request for a response goes on: its session, the turn that it names, and the items that it refers to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from server.errors import InvalidRequest, NotFound, SessionBusy
from server.http.identity import RequestState, SessionName, checked_id
from server.responses.background import Background
from server.responses.ids import response_of
from server.responses.items import CompactionItem, Item, MessageItem, ReferenceItem
from server.responses.messages import Input
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
    items: Sequence[Item]
    """The items of its input, those that it referred to among them."""
    known: Collection[str] = ()
    """The ids of items that are on the way to the turn already."""

    def mode_of(self, given: Input) -> Mode | After:
        """Return where the messages of the input go on."""
        return replace(self.mode, known=given.known(self.known)) if isinstance(self.mode, After) else self.mode


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
    given = [MessageItem(role="user", content=body.input)] if body.input and isinstance(body.input, str) else body.input
    items = await resolved(given or (), "input", state.principal, sessions)
    if body.previous_response_id is not None:
        parent = await sessions.response(state.principal, body.previous_response_id)
        if parent is None:
            raise unknown_parent(body.previous_response_id)
        stored = await background.settled(parent)
        turn, session, mode = _continued(stored), stored.session, After(stored.answered.id)
        name = _only(session, name, "previous_response_id")
    elif body.conversation_id is not None:
        session = await known_conversation(body.conversation_id, "conversation", state.principal, sessions)
        newest, mode = await sessions.responses.newest(session), After()
        name = _only(session, name, "conversation")
        if newest is None:
            return Place(name=name, mode=mode, items=items)
        turn = newest
    else:
        if name is None and (referred := await _referred(items, given or (), state.principal, sessions)):
            return Place(name=SessionName(referred.id), mode="full", items=items)
        return Place(name=name, mode=session_mode(headers, name), items=items)
    if any(isinstance(item, CompactionItem) for item in items):  # it stands for the chain
        return Place(name=name, mode="full", items=items)
    known = await _known_ids(items, session, turn, sessions)
    return Place(name=name, mode=mode, turn=turn, items=items, known=known)


async def known_conversation(given: str, param: str, principal: str, sessions: Sessions) -> Session:
    """Return the session that is a conversation.

    Raises:
        NotFound: there is no such conversation of the principal.
    """
    session = Session(principal, checked_id(given, param))
    if await sessions.get(session) is None:
        message = f"Conversation with id '{given}' not found."
        raise NotFound(message, param=param, code="conversation_not_found")
    return session


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


async def resolved(items: Sequence[Item], param: str, principal: str, sessions: Sessions) -> Sequence[Item]:
    """Return items with those in place of references that they refer to; `param` says where they are.

    Raises:
        NotFound: an item is not stored, or is another principal's.
    """
    wanted = {response_of(item.id) for item in items if isinstance(item, ReferenceItem)}
    if not wanted:
        return items
    stored = await sessions.responses_among(principal, list(filter(None, wanted)))
    known: dict[str, Any] = {item["id"]: item for response in stored.values() for item in response.items}
    found: list[Item] = []
    for index, item in enumerate(items):
        if not isinstance(item, ReferenceItem):
            found.append(item)
        elif item.id in known:
            found.append(ITEM.validate_python(known[item.id]))
        else:
            message = f"Item with id '{item.id}' not found."
            raise NotFound(message, param=f"{param}[{index}].id", code="item_not_found")
    return found


async def _referred(items: Sequence[Item], given: Sequence[Item], principal: str, sessions: Sessions) -> Session | None:
    """Return the session of the last item whose id is one of ours."""
    named = [response_of(item.id) for item in [*items, *given]]
    ids = list(dict.fromkeys(filter(None, reversed(named))))
    known = await sessions.responses.sessions(principal, ids) if ids else {}
    return next((known[response_id] for response_id in ids if response_id in known), None)


async def _known_ids(items: Sequence[Item], session: Session, turn: KnownTurn, sessions: Sessions) -> Collection[str]:
    """Return the ids of items that are on the way to a turn."""
    ours = {item.id: response for item in items if (response := response_of(item.id))}
    chain = await sessions.responses.ids_of_chain(session, turn) if ours else ()
    return {item_id for item_id, response in ours.items() if item_id and response in chain}
