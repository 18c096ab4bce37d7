"""What the model is shown of a thread. Pure."""

from collections import deque
from collections.abc import Collection, Iterator, KeysView, Sequence
from itertools import takewhile

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, InvalidToolCall, ToolCall, ToolMessage

CLIENT_CALLS = "client_calls"
NOT_RUN = "This tool call was interrupted; it has no result."


def paired(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return the messages with every tool call followed by its result, as strict endpoints demand.

    Some models and clients use the same call ids in every answer, so a result belongs to the newest call with its id. A
    call that was cut short gets a result that says so. A result without its call is left out, and so is an empty
    answer.
    """
    shown: list[AnyMessage | str] = []  # the id of a call where its result belongs
    places: dict[str, deque[int]] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            if places_of_call := places.get(message.tool_call_id):
                shown[places_of_call.popleft()] = message
        elif not _is_silent(message):
            shown.append(message)
            ids = list(call_ids(message)) if isinstance(message, AIMessage) else []
            places |= {call: deque() for call in ids}
            for call in ids:
                places[call].append(len(shown))
                shown.append(call)
    return [unanswered(message) if isinstance(message, str) else message for message in shown]


def _is_silent(message: AnyMessage) -> bool:
    return isinstance(message, AIMessage) and not message.content and not all_calls(message)


def all_calls(message: AIMessage) -> list[ToolCall | InvalidToolCall]:
    """Return all calls of a message, those with malformed arguments last, as langchain-openai sends them."""
    return [*message.tool_calls, *message.invalid_tool_calls]


def call_ids(message: AIMessage) -> Iterator[str]:
    """Yield the ids of all calls of a message."""
    for call in all_calls(message):
        yield call["id"] or ""


def with_client_calls(
    message: AIMessage,
    names: Collection[str],
    *,
    told: Collection[str] = (),
    at_most: int | None = None,
    ours_at_most: int | None = None,
) -> AIMessage:
    """Return the message with a note of which calls the client runs; the graph's edges read it.

    Calls of the client's tools beyond `at_most` are taken out, those last of which the client was `told`, and calls of
    ours beyond `ours_at_most`.
    """
    clients = [call["id"] for call in all_calls(message) if call["name"] in names]
    clients.sort(key=lambda call: call not in told)
    ours = [call["id"] for call in all_calls(message) if call["name"] not in names]
    kept = {*clients[:at_most], *ours[:ours_at_most]}
    if not clients and len(kept) == len(ours):
        return message
    return message.model_copy(
        update={
            "tool_calls": [call for call in message.tool_calls if call["id"] in kept],
            "invalid_tool_calls": [call for call in message.invalid_tool_calls if call["id"] in kept],
            "additional_kwargs": {CLIENT_CALLS: clients[:at_most]} if clients else message.additional_kwargs,
        }
    )


def client_calls(message: AIMessage) -> KeysView[str]:
    """Return the ids of the calls that the message's client runs."""
    return dict.fromkeys(message.additional_kwargs.get(CLIENT_CALLS, ())).keys()  # ordered, and quick to search


def our_calls(message: AIMessage) -> list[ToolCall | InvalidToolCall]:
    """Return the calls of a message that the agent runs itself."""
    clients = client_calls(message)
    return [call for call in all_calls(message) if call["id"] not in clients]


def messages_after(message: AnyMessage, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return the messages after one of them."""
    return [*takewhile(lambda later: later is not message, reversed(messages))][::-1]


def results_after(message: AnyMessage, messages: Sequence[AnyMessage]) -> Collection[str]:
    """Return the ids of the calls that have results after a message."""
    after = messages_after(message, messages)
    return {result.tool_call_id for result in after if isinstance(result, ToolMessage)}


def unanswered(call_id: str) -> ToolMessage:
    """Return the result of a call that was never run to its end."""
    return ToolMessage(NOT_RUN, tool_call_id=call_id, status="error", id=f"result-{call_id}")


def tool_rounds(messages: Sequence[AnyMessage]) -> int:
    """Count the model messages with tool calls since the client said something."""
    return sum(isinstance(message, AIMessage) and bool(all_calls(message)) for message in _since_the_client(messages))


def calls_run(messages: Sequence[AnyMessage]) -> int:
    """Count the calls of our tools that were run since the client said something."""
    return sum(is_our_result(message) for message in _since_the_client(messages))


def _since_the_client(messages: Sequence[AnyMessage]) -> Iterator[AnyMessage]:
    """Yield the messages since the client said something; results of its own tools count as said by it."""
    return takewhile(
        lambda message: is_our_result(message) or not isinstance(message, HumanMessage | ToolMessage),
        reversed(messages),
    )


def is_our_result(message: AnyMessage) -> bool:
    """Whether it is the result of one of our tools; unlike those of the client's they have a name."""
    return isinstance(message, ToolMessage) and message.name is not None
