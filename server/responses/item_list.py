"""The items of a conversation: its responses as they were, and the messages of turns that other protocols answered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_OID, uuid5

from fastapi import Query
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph.history import all_calls, client_calls, is_our_result
from graph.model.arguments import dump_arguments
from server.errors import InvalidRequest
from server.messages.convert import dump_messages
from server.responses.response import ItemList
from server.sessions.dependencies import Sessions
from server.sessions.naming import Session
from server.sessions.reconcile import KnownTurn
from server.sessions.responses import Link, StoredResponse
from server.sessions.stored_messages import agent_of, turn_messages

Json = dict[str, Any]

# Which items a request lists.
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Order = Annotated[Literal["asc", "desc"], Query(description="From the first, or from the last.")]
AfterItem = Annotated[str | None, Query(description="The last id of the page before.")]


async def items_before(stored: StoredResponse, sessions: Sessions) -> list[Json]:
    """Return what a response was made from: the items of the turns before its own, and its own input."""
    own = stored.input
    if stored.turn is None:
        return own
    *before, _ = await sessions.responses.chain(stored.session, stored.turn)
    return [*await _items_of(before, stored.session, sessions), *own]


async def items_of_session(session: Session, sessions: Sessions) -> list[Json]:
    """Return the items of a session up to its newest turn."""
    newest = await sessions.responses.newest(session)
    chain = await sessions.responses.chain(session, newest) if newest else ()
    return await _items_of(chain, session, sessions)


async def _items_of(chain: Sequence[Link], session: Session, sessions: Sessions) -> list[Json]:
    """Return the items of turns that follow one another from the first on; turns without a response are read."""
    items: list[Json] = []
    last: KnownTurn | None = None
    for is_told, links in groupby(chain, key=lambda link: link.items is not None):
        group = list(links)
        if is_told:
            items += [item for link in group for item in link.items or ()]
        else:
            agent = agent_of(sessions.assembly, group[-1].turn.agent)
            items += dump_items(await _messages_between(last, group[-1].turn, session, sessions), agent.server_of)
        last = group[-1].turn
    return items


async def _messages_between(
    first: KnownTurn | None, last: KnownTurn, session: Session, sessions: Sessions
) -> Sequence[AnyMessage]:
    known = {message.id for message in await turn_messages(sessions.assembly, session, first)} if first else set()
    messages = await turn_messages(sessions.assembly, session, last)
    return [message for message in messages if message.id not in known]


def dump_items(messages: Sequence[AnyMessage], server_of: Callable[[str], str]) -> list[Json]:
    """Return the items of messages that were said in another protocol; ids are made from those of the messages."""
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    return [item for message in messages for item in _dump(message, results, server_of)]


def _dump(message: AnyMessage, results: Mapping[str, ToolMessage], server_of: Callable[[str], str]) -> Iterator[Json]:
    key, done = str(message.id), {"status": "completed"}
    match message:
        case AIMessage():
            if text := str(message.text):
                content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
                yield {"id": _id("msg", key), "type": "message", **done, "role": "assistant", "content": content}
            clients = client_calls(message)
            for call in all_calls(message):
                called = {"name": call["name"] or "", "arguments": dump_arguments(call)}
                result = results.get(call["id"] or "")
                if call["id"] in clients or not (result and is_our_result(result)):
                    item = {"id": _id("fc", str(call["id"])), "type": "function_call", "call_id": call["id"]}
                    yield {**item, **called, **done}
                else:
                    item = {
                        "id": _id("mcp", str(call["id"])),
                        "type": "mcp_call",
                        "server_label": server_of(call["name"] or ""),
                    }
                    yield {**item, **called, **done, "output": str(result.text), "error": None}
        case ToolMessage() if not is_our_result(message):
            output = {"call_id": message.tool_call_id, "output": str(message.text)}
            yield {"id": _id("fco", key), "type": "function_call_output", **done, **output}
        case ToolMessage():
            return
        case _:
            [dumped] = dump_messages([message])
            content = [{"type": "input_text", "text": str(message.text)}]
            yield {"id": _id("msg", key), "type": "message", **done, "role": dumped.role, "content": content}


def _id(prefix: str, key: str) -> str:
    return f"{prefix}_{uuid5(NAMESPACE_OID, key).hex}"


def page_of(items: Sequence[Json], *, limit: int, order: Literal["asc", "desc"], after: str | None) -> ItemList:
    """Return a page of items; `after` is the last id of the page before.

    Raises:
        InvalidRequest: there is no item `after`.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        start = next((at for at, item in enumerate(ordered, 1) if item["id"] == after), 0)
        if not start:
            raise InvalidRequest(f"Item with id '{after}' not found.", param="after", code="invalid_value")
    page = ordered[start : start + limit]
    first_id, last_id = (page[0]["id"], page[-1]["id"]) if page else ("", "")
    return ItemList(data=page, first_id=first_id, last_id=last_id, has_more=len(ordered) > start + limit)


def without(items: Sequence[Json], place: int) -> list[Json]:
    """Return items without one; of a call and its outputs, what would be left alone goes with it."""
    gone, rest = items[place], [item for at, item in enumerate(items) if at != place]
    call_id = gone.get("call_id")
    if gone["type"] == "function_call":
        return [item for item in rest if item.get("call_id") != call_id]
    if gone["type"] == "function_call_output" and rest and rest[-1].get("call_id") != call_id:
        return [item for item in rest if item.get("call_id") != call_id]
    return rest
