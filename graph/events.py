"""What a run yields, in the order in which it happens: frozen values that every protocol reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

from langchain_core.messages.ai import UsageMetadata

from tools.mcp.progress import Progress


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the text of a model message."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The next piece of a refusal, which the model gives instead of an answer."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The next piece of the model's reasoning before its answer."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """A model message is complete."""

    message_id: str | None
    finish_reason: str | None
    """In the model endpoint's words."""
    usage: UsageMetadata | None
    has_calls: bool = False
    """Whether the message calls tools, so that it is not the last one of the turn's answer."""


@dataclass(frozen=True, slots=True)
class ClientCallDelta:
    """The next piece of a call of one of the client's tools, while the model writes it, or whole when it has."""

    call_id: str
    name: str
    arguments: str
    """More of the JSON, or of what the model wrote if that is not valid JSON."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call of one of the client's tools is complete: the turn ends, and the next request brings the result."""

    call_id: str


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The agent waits for a person to approve a call of one of its own tools: the turn ends."""

    asked_as: str
    """The id under which the person is asked."""
    name: str
    arguments: Mapping[str, Any]
    server: str
    """The MCP server whose tool it is; of another tool, the agent."""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The agent begins to run a tool of its own: from here on the run may have effects."""

    call_id: str
    name: str
    arguments: Any
    server: str
    """The MCP server whose tool it is; of another tool, the agent."""
    asked_as: str | None = None
    """The id under which a person was asked before, where that is not the call's."""


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """How far a call of one of the agent's tools has come, as its server says."""

    call_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A call of one of the agent's tools has ended."""

    call_id: str
    failed: bool
    output: str
    """The text of the result."""

    @property
    def size(self) -> int:
        """Size of the result, in bytes."""
        return len(self.output.encode())


RunEvent = (
    Text
    | Refusal
    | Reasoning
    | MessageEnded
    | ClientCallDelta
    | ClientCall
    | ApprovalRequested
    | ToolStarted
    | ToolProgress
    | ToolEnded
)


def joined(events: Sequence[RunEvent]) -> Iterable[RunEvent]:
    """Return the events; texts of one kind and message, or pieces of one call, that follow each other are one."""
    return events if len(events) == 1 else _joined(events)


def _joined(events: Sequence[RunEvent]) -> Iterator[RunEvent]:
    for (kind, about), group in groupby(events, key=_continues):
        if kind in (Text, Refusal, Reasoning):
            yield kind(about, "".join(piece.text for piece in cast(Iterator[Text], group)))
        elif kind is ClientCallDelta:
            first, *rest = cast(Iterator[ClientCallDelta], group)
            yield replace(first, arguments="".join(piece.arguments for piece in (first, *rest)))
        else:
            yield from group


def _continues(event: RunEvent) -> tuple[type[RunEvent], str | None]:
    """Return what pieces that can be joined have in common."""
    return type(event), getattr(event, "call_id" if isinstance(event, ClientCallDelta) else "message_id", None)
