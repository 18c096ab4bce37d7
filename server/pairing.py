"""Tool calls and their results, as a client must send them: each call followed by its result. Pure."""

from collections.abc import Iterable, Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph.history import call_ids

# OpenAI's words, in its spelling.
ORPHAN = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
    "The following tool_call_ids did not have response messages: {}"
)


class UnpairedMessage(ValueError):
    """A message where a result without its call stands, or where a call's result is missing."""

    def __init__(self, complaint: str, at: AnyMessage | None) -> None:
        super().__init__(complaint)
        self.at = at


def check_paired(messages: Sequence[AnyMessage], waiting: Iterable[str] = ()) -> None:
    """See that results follow their calls; `waiting` are calls that came before the messages.

    Raises:
        UnpairedMessage: they do not.
    """
    open_calls = list(waiting)
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in open_calls:
                raise UnpairedMessage(ORPHAN, message)
            open_calls.remove(message.tool_call_id)
            continue
        if open_calls:
            raise UnpairedMessage(UNANSWERED.format(", ".join(open_calls)), message)
        open_calls = list(call_ids(message)) if isinstance(message, AIMessage) else []
    if open_calls:
        raise UnpairedMessage(UNANSWERED.format(", ".join(open_calls)), messages[-1] if messages else None)


def results_at_end(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Return the tool results that the messages end with."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, message)
    return results


def unanswered_calls(messages: Sequence[AnyMessage]) -> list[str]:
    """Return the ids of calls that the messages have no result for."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = (call for message in messages if isinstance(message, AIMessage) for call in call_ids(message))
    return [call for call in calls if call not in answered]
