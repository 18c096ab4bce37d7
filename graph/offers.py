"""Which tools the model is offered in a step of a turn, and whether it must call one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.tools import BaseTool

from graph.state import TurnContext, tool_names


@dataclass(frozen=True)
class Offer:
    """The tools, ours first, and the choice that the model is told, in OpenAI's form."""

    tools: Sequence[BaseTool | dict[str, Any]]
    choice: str | dict[str, Any] | None = None


def offered(tools: Sequence[BaseTool], context: TurnContext, *, rounds: int, max_rounds: int) -> Offer:
    """Return what is offered after so many rounds of tools in a turn.

    A call that the client demands can only be one of its own tools', so only those are offered; and only in the first
    step of a turn, or the turn would never come to an answer. After the last round there are none of ours.
    """
    clients = [dict(tool) for tool in context.callable_tools]
    if context.demanded_call is not None and rounds == 0:
        return Offer(clients, context.demanded_call)
    return Offer([*(ours(tools, context) if rounds < max_rounds else ()), *clients])


def ours(tools: Sequence[BaseTool], context: TurnContext) -> list[BaseTool]:
    """Return our tools without those whose names the client uses for its own."""
    hidden = tool_names(context.client_tools)
    return [tool for tool in tools if tool.name not in hidden]
