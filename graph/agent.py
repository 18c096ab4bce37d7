"""The agent as a graph: a model node and a tool node, one `Send` for each tool call, a bound on tool rounds."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, InvalidToolCall, SystemMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from graph.history import paired, tool_rounds
from graph.model import ChatModel
from graph.prompts import DEFAULT_PROMPT, layered_prompt
from graph.state import AgentState, TurnContext

log = logging.getLogger(__name__)

MAX_TOOL_ROUNDS = 8

Agent = CompiledStateGraph[AgentState, TurnContext, AgentState, AgentState]


def build_agent(
    model: ChatModel,
    tools: Sequence[BaseTool] = (),
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_tool_rounds: int = MAX_TOOL_ROUNDS,
) -> Agent:
    """Compile the graph. `tools` is read anew in every step, so a live sequence may change between them."""

    async def call_model(state: AgentState, *, runtime: Runtime[TurnContext]) -> dict[str, list[AIMessage]]:
        """Ask the model for its next message; in the last round it gets no tools and must answer."""
        context = runtime.context or TurnContext()  # type: ignore[truthy-bool]  # None where nobody gave one
        messages = state["messages"]
        system = SystemMessage(layered_prompt(prompt, context.instructions, datetime.now().date()))
        offered = list(tools) if tool_rounds(messages) < max_tool_rounds else []
        shown = [system, *paired(messages)]
        answer = await model.answer(shown, tools=offered, parameters=context.parameters)
        return {"messages": [answer]}

    async def call_tool(call: ToolCall | InvalidToolCall) -> dict[str, list[ToolMessage]]:
        """Run one tool call; whatever happens, the model gets a result for it."""
        return {"messages": [await tool_result(call, tools)]}

    graph = StateGraph(AgentState, context_schema=TurnContext)
    graph.add_node("model", call_model)
    # Its input is one call, not the state; a declared input schema would become channels of the state.
    graph.add_node("tools", call_tool)  # type: ignore[call-overload]
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", next_step, ["tools", END])
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=checkpointer, name="chat-agent")


def next_step(state: AgentState) -> list[Send] | str:
    """Send every call of the last message to the tool node, each on its own, or end the turn."""
    last = state["messages"][-1]
    calls = [*last.tool_calls, *last.invalid_tool_calls] if isinstance(last, AIMessage) else []
    return [Send("tools", call) for call in calls] or END


async def tool_result(call: ToolCall | InvalidToolCall, tools: Sequence[BaseTool]) -> ToolMessage:
    """Run a tool call and return its result; a failure is a result too, in words that the model can relay."""
    name = call["name"] or ""
    tool = next((tool for tool in tools if tool.name == name), None)
    if call["type"] == "invalid_tool_call":
        return _result(call, "The arguments of this tool call are not valid JSON.", "error")
    if tool is None:
        return _result(call, f"There is no tool called {name!r}.", "error")
    try:
        message = await tool.ainvoke(call)
    except ToolException as failure:
        return _result(call, str(failure), "error")
    except (Exception, asyncio.CancelledError):
        # A tool's transport may cancel this task from within; only a cancellation of the run counts on it.
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        log.exception("Tool %r failed.", name)
        return _result(call, f"The tool {name!r} failed.", "error")
    return _result(call, str(message.text), message.status)


def _result(call: ToolCall | InvalidToolCall, text: str, status: Literal["success", "error"]) -> ToolMessage:
    return ToolMessage(text, tool_call_id=call["id"] or "", name=call["name"], status=status, id=str(uuid4()))
