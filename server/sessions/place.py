"""Where in its session's tree a turn goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, ToolCall

from graph.approval import Decisions
from graph.run import Position
from graph.storage.run_saver import Loaded
from server.sessions.reconcile import Habit, Step
from server.sessions.speech import Speech
from server.sessions.transcript import Transcript


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in its session's tree a turn goes on, found under the session's lock."""

    step: Step
    given: Sequence[AnyMessage]
    """The messages that the run begins with: the new ones, or all if another agent takes over."""
    transcript: Transcript
    """The conversation up to and with the request."""
    habit: Habit | None
    position: Position
    """The checkpoint that the run follows."""
    start: Loaded
    """The same checkpoint, read."""
    decisions: Decisions | None = None
    """What a person decided about the calls that the turn before waits with."""
    is_seen: bool = True
    """Whether the client is told of the answer."""

    def digest_with(self, speech: Speech, calls: Sequence[str] = ()) -> bytes:
        """Return the digest of the conversation with an answer that says this and calls the client's tools."""
        return self.transcript.with_answer(calling(calls, speech.text)) if self.is_seen else self.transcript.digest

    @property
    def undecided(self) -> Sequence[str]:
        """The calls that the turn before waits with, for which there is no result before the turn is run."""
        return [call.call_id for call in self.step.after.awaits] if self.step.after else []

    @property
    def still_open(self) -> Sequence[str]:
        """The calls of the client's tools that the turn before waits for, where the client sends nothing."""
        if self.is_seen or self.step.after is None:
            return []
        asked = [call.asked_as for call in self.step.after.awaits]
        return [call for call in self.step.after.waiting if call not in asked]


def calling(calls: Sequence[str], text: str = "") -> AIMessage:
    """Return a message that makes calls, of which only the ids matter."""
    return AIMessage(text, tool_calls=[ToolCall(name="", args={}, id=call, type="tool_call") for call in calls])
