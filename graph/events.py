"""What a run yields, in the order in which it happens: frozen values, which every protocol reads."""

from dataclasses import dataclass
from typing import Any

from langchain_core.messages.ai import UsageMetadata

from tools.mcp.progress import Progress


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of what a message of the model says."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The next piece of what the model says in place of an answer, where it refuses to give one."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The next piece of what the model thinks before it answers."""

    message_id: str | None
    text: str


@dataclass(frozen=True, slots=True)
class MessageEnded:
    """A message of the model is whole."""

    message_id: str | None
    finish_reason: str | None
    """As the model endpoint says it."""
    usage: UsageMetadata | None


@dataclass(frozen=True, slots=True)
class ClientCall:
    """The model calls a tool of the client's; the turn ends when its own tools are done, and waits for the result."""

    call_id: str
    name: str
    arguments: str
    """JSON; what the model wrote, where that is none."""


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The agent begins to run a tool of its own: from here on the run may have effects."""

    call_id: str
    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """How far a call of one of the agent's tools has come, as its server says."""

    call_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool of the agent's is done."""

    call_id: str
    failed: bool
    size: int
    """Of the result, in bytes."""


RunEvent = Text | Refusal | Reasoning | MessageEnded | ClientCall | ToolStarted | ToolProgress | ToolEnded
