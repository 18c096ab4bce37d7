"""Convert the items of a request's input to LangChain's messages. Pure."""

import json
import logging
from base64 import b64decode
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph.approval import NOT_AWAITED, REFUSED
from graph.history import call_ids, is_our_result
from graph.model.calls import load_call
from graph.summary import SUMMARY
from server.errors import InvalidRequest
from server.messages.convert import load_message
from server.messages.shapes import Message
from server.messages.tool_results import UnpairedMessage
from server.responses.ids import item_id
from server.responses.items import (
    ApprovalRequestItem,
    ApprovalResponseItem,
    CompactionItem,
    CustomCallItem,
    FunctionCallItem,
    Item,
    McpCallItem,
    MessageItem,
    OtherItem,
    OutputItem,
    ReferenceItem,
)
from server.responses.listed import dump_item, failure_of
from server.responses.parts import load_content
from server.sessions.speech import MESSAGE_SEPARATOR

log = logging.getLogger(__name__)

Json = dict[str, Any]

NO_RESULT = "This tool call was interrupted; it has no result."
# What a model thought is not shown to it again.
LEFT_OUT_SILENTLY = {"reasoning"}


@dataclass
class Input:
    """The input of a request in native terms."""

    messages: list[AnyMessage] = field(default_factory=list)
    """Without system messages."""
    standing: list[str] = field(default_factory=list)
    """What system messages say; it stands for the whole chain."""
    items: dict[str, list[Json]] = field(default_factory=dict)
    """The items that each message was made of, by the message's id, in the form in which they are listed.

    System messages are listed with the message that follows them.
    """
    tail: list[Json] = field(default_factory=list)
    """The items after the last message."""

    def known(self, ids: Collection[str]) -> Collection[str]:
        """Return the ids of the messages that were made of items with these ids alone."""
        known = {name for name, items in self.items.items() if items and all(item["id"] in ids for item in items)}
        called = {
            call
            for message in self.messages
            if isinstance(message, AIMessage) and message.id in known
            for call in call_ids(message)
        }
        results = (message for message in self.messages if isinstance(message, ToolMessage) and is_our_result(message))
        return known | {str(result.id) for result in results if result.tool_call_id in called}

    def items_of_all(self) -> list[Json]:
        """Return all items."""
        return self.of(self.messages)

    def of(self, messages: Sequence[AnyMessage]) -> list[Json]:
        """Return the items of some of the messages; results that the server added itself are items too."""
        listed: list[Json] = []
        for message in messages:
            if message.id in self.items:
                listed += self.items[message.id]
            elif isinstance(message, ToolMessage) and not is_our_result(message):
                output = {"call_id": message.tool_call_id, "output": str(message.text), "status": "incomplete"}
                listed.append({"id": f"fco_{uuid4().hex}", "type": "function_call_output", **output})
        return [*listed, *self.tail]


def load_items(
    given: str | Sequence[Item] | None,
    response_id: str,
    param: str = "input",
    listed: Sequence[Json] | None = None,
) -> Input:
    """Return the input; consecutive items of the assistant are one message, as they were when it said them.

    Args:
        given: the items, or a user's message.
        response_id: the response, which names items that have no id.
        param: where in the request they are.
        listed: the items in the form in which they are listed, where they have been before.

    Raises:
        InvalidRequest: an item lacks what its type needs.
    """
    items = [MessageItem(role="user", content=given)] if isinstance(given, str) else given or ()
    loaded, request = Input(), uuid4().hex
    for at, item in _kept(items):
        if listed is not None:
            loaded.tail.append(listed[at])
        elif not isinstance(item, OtherItem | ReferenceItem):
            loaded.tail.append(dump_item(item, item_id(response_id, item.type, at, "i")))
        for message in _messages_of(item, f"{param}[{at}]", f"{request}-{at}"):
            if isinstance(message, SystemMessage):
                loaded.standing.append(str(message.text))
                continue
            if isinstance(message, AIMessage) and (place := _joined_at(loaded.messages)) is not None:
                message = loaded.messages[place] = _joined(loaded.messages[place], message)
            else:
                loaded.messages.append(message)
            if loaded.tail:
                loaded.items.setdefault(str(message.id), []).extend(loaded.tail)
                loaded.tail = []
    return loaded


def _kept(items: Sequence[Item]) -> Iterator[tuple[int, Item]]:
    """Yield the items and their places, without outputs of calls that are not known, and calls that were cut short."""
    unknown: set[str] = set()
    answered = {item.call_id for item in items if isinstance(item, OutputItem)}
    for at, item in enumerate(items):
        match item:
            case OtherItem():
                unknown.add(str((item.model_extra or {}).get("call_id")))
            case OutputItem() if item.call_id in unknown:
                continue
            case FunctionCallItem(status="incomplete") if item.call_id not in answered:
                continue
        yield at, item


def unpaired(error: UnpairedMessage, param: str = "input") -> InvalidRequest:
    """Return the error for calls and outputs in the input that do not fit together."""
    call = error.calls[0]
    if error.is_orphan:
        return InvalidRequest(f"No tool call found for function call output with call_id {call}.", param=param)
    return InvalidRequest(f"No tool output found for function call {call}.", param=param)


def _messages_of(item: Item, param: str, new_id: str) -> Sequence[AnyMessage]:
    match item:
        case MessageItem():
            message = Message(role=item.role, content=load_content(item.content, f"{param}.content"))
            return [load_message(message, param, new_id)]
        case FunctionCallItem():
            return [_calling(item.name, item.arguments, item.call_id, new_id)]
        case CustomCallItem():
            return [_calling(item.name, json.dumps({"input": item.input}), item.call_id, new_id)]
        case OutputItem():
            message = Message(
                role="tool", tool_call_id=item.call_id, content=load_content(item.output, f"{param}.output")
            )
            return [load_message(message, param, new_id)]
        case McpCallItem():
            # It has a name, by which results of the server's tools are told from the client's.
            call_id = item.id or new_id
            output = item.output if item.output is not None else failure_of(item) or NO_RESULT
            result = ToolMessage(output, tool_call_id=call_id, name=item.name, id=f"{new_id}-result")
            return [_calling(item.name, item.arguments, call_id, new_id), result]
        case ApprovalRequestItem():
            return [_calling(item.name, item.arguments, item.id, new_id)]
        case ApprovalResponseItem():
            # The answer is for whoever waits for it; the model is shown that the call was not run, if nobody does.
            answer = {"approved": item.approve, "reason": item.reason}
            why = NOT_AWAITED if item.approve else REFUSED
            return [ToolMessage(why, tool_call_id=item.approval_request_id, artifact=answer, id=new_id)]
        case CompactionItem():
            return [HumanMessage(SUMMARY + _summary(item, param), id=new_id)]
        case OtherItem() if item.type not in LEFT_OUT_SILENTLY:
            log.info("Items of the type %r are not known; %s is left out.", item.type[:100], param)
    return []


def _summary(item: CompactionItem, param: str) -> str:
    try:
        return b64decode(item.encrypted_content, validate=True).decode()
    except ValueError as error:
        message = f"Invalid '{param}.encrypted_content': this summary was not made by this server."
        raise InvalidRequest(message, param=f"{param}.encrypted_content", code="invalid_value") from error


def _calling(name: str, arguments: str, call_id: str, new_id: str) -> AIMessage:
    call = load_call(name, arguments, call_id)
    if call["type"] == "tool_call":
        return AIMessage("", tool_calls=[call], id=new_id)
    return AIMessage("", invalid_tool_calls=[call], id=new_id)


def _joined_at(messages: Sequence[AnyMessage]) -> int | None:
    """Return the place of the assistant's message that its next item is part of; None if that begins another one.

    One that called tools of the client's is followed by their outputs, whatever the server's tools found meanwhile.
    """
    place = len(messages) - 1
    while place >= 0 and is_our_result(messages[place]):
        place -= 1
    if place < 0 or not isinstance(last := messages[place], AIMessage):
        return None
    found = {message.tool_call_id for message in messages[place + 1 :] if isinstance(message, ToolMessage)}
    return place if set(call_ids(last)) - found or not found else None


def _joined(first: AnyMessage, second: AIMessage) -> AIMessage:
    """Return two messages as one, with the text that a client of chat completions gets of both."""
    assert isinstance(first, AIMessage)
    texts = [str(message.text) for message in (first, second) if message.text]
    return AIMessage(
        MESSAGE_SEPARATOR.join(texts),
        tool_calls=[*first.tool_calls, *second.tool_calls],
        invalid_tool_calls=[*first.invalid_tool_calls, *second.invalid_tool_calls],
        id=first.id,
    )
