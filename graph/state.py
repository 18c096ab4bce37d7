"""The state of a thread, and the context of one turn, which is not stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph.message import add_messages
from pydantic import Field, with_config
from typing_extensions import TypedDict

from graph.approval import Decision, Decisions

# The name of the agent that is ours, beside those of AGENTS.
OUR_AGENT = "chat-agent"
# The channel of the messages.
MESSAGES = "messages"
# A full copy of the messages every so many updates: rare enough that storage grows with what is said.
SNAPSHOT_FREQUENCY = 1000


def _fold_messages(messages: Any, writes: Sequence[Any]) -> Any:
    # All at once: one write after the other, a thread would be copied for each of its messages.
    flat = [message for write in writes for message in (write if isinstance(write, list) else [write])]
    return add_messages(messages, flat)


class MessagesChannel(DeltaChannel[list[AnyMessage]]):
    """A DeltaChannel whose schema says what is in the list, which LangGraph's own leaves out."""

    @property
    def UpdateType(self) -> Any:
        """What may be written to it."""
        return Messages


Messages = Annotated[
    list[AnyMessage],
    Field(description="Every message of the conversation, server tool calls and their results included."),
]


@with_config(title="Thread")
class AgentState(TypedDict):
    """What a thread remembers."""

    messages: Annotated[Messages, MessagesChannel(_fold_messages, snapshot_frequency=SNAPSHOT_FREQUENCY)]


@with_config(title="Turn", use_attribute_docstrings=True)
@dataclass(frozen=True, kw_only=True)
class TurnContext:
    """What one turn asks for itself; nothing of it is stored in the thread."""

    instructions: tuple[str, ...] = ()
    """System messages of the request, layered after the agent's prompt."""
    client_tools: tuple[Mapping[str, Any], ...] = ()
    """Tools that the client runs itself, in OpenAI's form; a call ends the turn. They hide ours of the same name."""
    tool_choice: str | dict[str, Any] | None = None
    """Which of the client's tools the model may or must call, in OpenAI's form."""
    max_tool_calls: int | None = None
    """How many calls of the agent's own tools may be run in the turn; None for any number."""
    truncation: Literal["auto", "disabled"] = "auto"
    """Whether the oldest turns are shown as a summary where the prompt nears the model's window, or it is refused."""
    compact_threshold: int | None = None
    """From how many tokens on they are; None where the window alone decides."""
    decisions: Annotated[
        Decisions | None,
        Field(title="Decisions", description="What a person decided about the calls that the thread waits with."),
    ] = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model request that the client set, in OpenAI's names (`model`, `temperature`, `stop`, …)."""

    def decided_about(self, message: AIMessage) -> Mapping[str, Decision] | None:
        """Return what a person decided about the calls of a message, by their ids; None if nobody did."""
        is_decided = self.decisions and self.decisions.message_id == message.id
        return self.decisions.calls if self.decisions and is_decided else None

    @property
    def answer_format(self) -> Mapping[str, Any] | None:
        """The format that the answer must have, other than text."""
        response_format: Mapping[str, Any] = self.parameters.get("response_format") or {}
        return None if response_format.get("type", "text") == "text" else response_format

    @property
    def callable_tools(self) -> Sequence[Mapping[str, Any]]:
        """Those of the client's tools that the model may call."""
        match self.tool_choice:
            case "none":
                return ()
            case {"type": "allowed_tools", "allowed_tools": {"tools": [*allowed]}}:
                names = tool_names(allowed)
                return [tool for tool in self.client_tools if tool["function"]["name"] in names]
            case _:
                return self.client_tools

    @property
    def demanded_call(self) -> str | dict[str, Any] | None:
        """Which call of the client's tools the model must make: `required` for any, or one tool."""
        match self.tool_choice:
            case "required" | {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}:
                return "required" if self.callable_tools else None
            case {"type": "function"}:
                return self.tool_choice
            case _:
                return None


def tool_names(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of tools in OpenAI's form."""
    return frozenset(tool["function"]["name"] for tool in tools)
