"""Tool calls and their results, as a client must send them: each call followed by its result. Pure.

An id may come again in a later message, and even in the same one: each call takes one result.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph.history import call_ids, is_our_result

# OpenAI's words, in its spelling.
ORPHAN = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
    "The following tool_call_ids did not have response messages: {}"
)


class UnpairedMessage(ValueError):
    """A result without its call, or calls without their results; `calls` are the ids."""

    def __init__(self, complaint: str, at: AnyMessage | None, calls: Sequence[str], *, is_orphan: bool) -> None:
        super().__init__(complaint)
        self.at, self.calls, self.is_orphan = at, calls, is_orphan


def check_paired(messages: Sequence[AnyMessage], waiting: Iterable[str] = (), *, may_wait: bool = False) -> None:
    """Check that results follow their calls; `waiting` are calls from before the messages.

    Calls at the end may be open where they may wait for results that come later.

    Raises:
        UnpairedMessage: a result or a call stands alone.
    """
    open_calls = Counter(waiting)
    for message in messages:
        if isinstance(message, ToolMessage):
            if not open_calls[message.tool_call_id]:
                raise UnpairedMessage(ORPHAN, message, [message.tool_call_id], is_orphan=True)
            open_calls[message.tool_call_id] -= 1
            continue
        _check_answered(open_calls, message)
        open_calls = Counter(call_ids(message)) if isinstance(message, AIMessage) else Counter()
    if not may_wait:
        _check_answered(open_calls, messages[-1] if messages else None)


def _check_answered(open_calls: Counter[str], at: AnyMessage | None) -> None:
    if unanswered := list(open_calls.elements()):
        raise UnpairedMessage(UNANSWERED.format(", ".join(unanswered)), at, unanswered, is_orphan=False)


def results_at_end(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Return the results of the client's tools that the messages end with."""
    results = takewhile(lambda message: isinstance(message, ToolMessage), reversed(messages))
    return [message for message in results if isinstance(message, ToolMessage) and not is_our_result(message)][::-1]


def unanswered_calls(messages: Sequence[AnyMessage]) -> list[str]:
    """Return the ids of calls that the messages have no result for."""
    open_calls: Counter[str] = Counter()
    for message in messages:
        if isinstance(message, AIMessage):
            open_calls.update(call_ids(message))
        elif isinstance(message, ToolMessage) and open_calls[message.tool_call_id]:
            open_calls[message.tool_call_id] -= 1
    return list(open_calls.elements())
