"""What the model is shown of a thread. Pure."""

from collections.abc import Iterator, Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

NOT_RUN = "This tool call was interrupted; it has no result."


def paired(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return the messages with every tool call followed by its result, as strict endpoints demand.

    A call that was cut short gets a result that says so; a result without its call is left out.
    """
    results = {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}
    shown: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            continue
        shown.append(message)
        if isinstance(message, AIMessage):
            shown.extend(results.get(call) or unanswered(call) for call in call_ids(message))
    return shown


def call_ids(message: AIMessage) -> Iterator[str]:
    """Yield the ids of all calls of a message, those with malformed arguments last, as langchain-openai sends them."""
    for call in (*message.tool_calls, *message.invalid_tool_calls):
        yield call["id"] or ""


def unanswered(call_id: str) -> ToolMessage:
    """Return the result of a call that was never run to its end."""
    return ToolMessage(NOT_RUN, tool_call_id=call_id, status="error", id=f"result-{call_id}")


def tool_rounds(messages: Sequence[AnyMessage]) -> int:
    """Count the model messages with tool calls since the last user message."""
    rounds = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        rounds += isinstance(message, AIMessage) and bool(message.tool_calls or message.invalid_tool_calls)
    return rounds
