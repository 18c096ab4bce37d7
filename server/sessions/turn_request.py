"""A request in native terms: what a turn is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.messages import AnyMessage

from graph.events import RunEvent
from graph.state import OUR_AGENT, TurnContext
from server.errors import ApiError
from server.messages.tool_results import UnpairedMessage
from server.sessions.naming import Session
from server.sessions.reconcile import After, Mode
from server.sessions.records import AnsweredResponse

Record = Callable[[Sequence[RunEvent], Sequence[AnyMessage], ApiError | None], AnsweredResponse]
"""Makes a response of a turn's events, its new messages, and why it was stopped, if it was."""


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """A request in native terms: its session, its messages without system ones, and the context of the turn."""

    agent: str = OUR_AGENT
    """The agent that is asked."""
    session: Session
    mode: Mode | After
    messages: Sequence[AnyMessage]
    context: TurnContext
    refuse: Callable[[UnpairedMessage], ApiError]
    """Makes the protocol's error for calls and results that do not fit."""
    quota: int | None
    """Bytes that the principal's sessions may store; None for any number."""
    record: Record | None = None
    """Makes the response that is stored with the turn."""
