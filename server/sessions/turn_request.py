"""A request in native terms: what a turn is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AnyMessage

from graph.events import RunEvent
from graph.state import OUR_AGENT, TurnContext
from server.errors import ApiError
from server.messages.tool_results import UnpairedMessage
from server.sessions.approval import Ask, unasked
from server.sessions.naming import Session
from server.sessions.reconcile import After, Approving, KnownTurn, Place
from server.sessions.records import AnsweredResponse

Record = Callable[[Sequence[RunEvent], Sequence[AnyMessage], ApiError | None], AnsweredResponse]
"""Makes a response of a turn's events, its new messages, and why it was stopped, if it was."""


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """A request in native terms: its session, its messages without system ones, and the context of the turn."""

    agent: str = OUR_AGENT
    """The agent that is asked."""
    session: Session
    mode: Place
    messages: Sequence[AnyMessage]
    context: TurnContext
    refuse: Callable[[UnpairedMessage], ApiError]
    """Makes the protocol's error for calls and results that do not fit."""
    standing: Sequence[str] | None = None
    """What its system messages say, where that stands for all that follows; None where it is for this request alone."""
    quota: int | None
    """Bytes that the principal's sessions may store; None for any number."""
    ask: Ask = unasked
    """How a person is asked to approve calls of the server's tools."""
    record: Record | None = None
    """Makes the response that is stored with the turn."""


def inheriting(request: TurnRequest, after: KnownTurn | None) -> TurnContext:
    """Return the context of a turn, with what system messages of its chain have said, if it says what it follows.

    An approval from beside has none of its own: that of the turn which waits goes on to count.
    """
    if not (after and isinstance(request.mode, After | Approving)):
        return request.context
    context = after.context if isinstance(request.mode, Approving) else request.context
    own = context.instructions
    return replace(context, instructions=(*(text for text in after.standing if text not in own), *own))


def standing_after(request: TurnRequest, after: KnownTurn | None) -> Sequence[str]:
    """Return what stands for all that follows a turn: each text once, though clients send theirs again."""
    before = (
        after.standing if after and (request.standing is None or isinstance(request.mode, After | Approving)) else ()
    )
    return list(dict.fromkeys([*before, *(request.standing or ())]))
