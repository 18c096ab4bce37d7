"""What the messages of a run tell, as events. Pure."""

from collections.abc import Callable, Collection, Iterator

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from graph.approval import waiting_calls
from graph.events import (
    ClientCall,
    ClientCallDelta,
    MessageEnded,
    Reasoning,
    Refusal,
    RunEvent,
    Text,
    ToolEnded,
    ToolStarted,
)
from graph.history import all_calls, client_calls
from graph.model.answer import REASONING, REFUSAL
from graph.model.arguments import dump_arguments


def said(message: AIMessage) -> Iterator[RunEvent]:
    """Yield what a message of the model, or a chunk of one, says."""
    if thought := message.additional_kwargs.get(REASONING):
        yield Reasoning(message.id, thought)
    if text := str(message.text):
        yield Refusal(message.id, text) if REFUSAL in message.additional_kwargs else Text(message.id, text)


def ended(
    message: BaseMessage,
    client_tools: Collection[str],
    told_calls: Collection[str],
    *,
    is_said: bool,
    label: Callable[[str], str],
) -> Iterator[RunEvent]:
    """Yield what a whole message tells: a tool's result, or the end of a model message, its calls, and unsaid text.

    Of the client's calls that were told while the model wrote them, only the end is left to be told.
    """
    match message:
        case ToolMessage():
            yield ToolEnded(message.tool_call_id, failed=message.status == "error", output=str(message.text))
        case AIMessage():
            if not is_said:
                yield from said(message)
            finish_reason = message.response_metadata.get("finish_reason")
            yield MessageEnded(message.id, finish_reason, message.usage_metadata, has_calls=bool(all_calls(message)))
            yield from calls_of(message, client_tools, told_calls, label)


def calls_of(
    message: AIMessage, client_tools: Collection[str], told_calls: Collection[str], label: Callable[[str], str]
) -> Iterator[RunEvent]:
    """Yield the calls of a model message; our graph notes which are the client's, others are told by name.

    While some wait for a person, none of ours is run.
    """
    clients = client_calls(message)
    for call in all_calls(message):
        call_id, name = call["id"] or "", call["name"] or ""
        if call_id in clients or name in client_tools:
            if call_id not in told_calls:
                yield ClientCallDelta(call_id, name, dump_arguments(call))
            yield ClientCall(call_id)
        elif not waiting_calls(message):
            yield ToolStarted(call_id, name, call["args"], label(name))
