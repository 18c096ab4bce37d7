"""The agent as a graph: a model node and a tool node, one `Send` for each tool call, a bound on tool rounds."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, InvalidToolCall, SystemMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import add_usage
from langchain_core.tools import BaseTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from graph.event_queue import queue_of_run
from graph.events import ToolProgress
from graph.history import all_calls, calls_run, client_calls, our_calls, paired, tool_rounds, with_client_calls
from graph.model.client import ChatModel
from graph.model.images import has_tool_images
from graph.offers import Offer, offered, ours
from graph.prompts import DEFAULT_PROMPT, layered_prompt
from graph.state import OUR_AGENT, AgentState, TurnContext, tool_names
from tools.mcp.progress import progress_listener
from tools.tasks import end_tasks, to_the_end

log = logging.getLogger(__name__)

MAX_TOOL_ROUNDS = 8
# Tool calls of one answer that run at the same time; the others wait.
CALLS_AT_ONCE = 16
CANCEL_AGAIN = 0.2

Result = TypeVar("Result")

AgentGraph = CompiledStateGraph[AgentState, TurnContext, AgentState, AgentState]


def build_agent(
    model: ChatModel,
    tools: Sequence[BaseTool] = (),
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_tool_rounds: int = MAX_TOOL_ROUNDS,
) -> AgentGraph:
    """Compile the graph. `tools` is read anew in every step, so a live sequence may change between them."""

    async def call_model(state: AgentState, *, runtime: Runtime[TurnContext]) -> dict[str, list[AIMessage]]:
        """Ask the model for its next message; in the last round it gets no tools and must answer."""
        context = runtime.context or TurnContext()  # type: ignore[truthy-bool]  # None if the caller gave none
        messages = state["messages"]
        system = SystemMessage(layered_prompt(prompt, context.instructions, datetime.now().date()))
        left = None if context.max_tool_calls is None else max(context.max_tool_calls - calls_run(messages), 0)
        rounds = 0 if left == 0 else max_tool_rounds
        offer = offered(tools, context, rounds=tool_rounds(messages), max_rounds=rounds)
        answer = await cancellable(next_message(model, [system, *paired(messages)], offer, context))
        at_once = 1 if context.parameters.get("parallel_tool_calls") is False else None
        named = tool_names(context.callable_tools)
        return {"messages": [with_client_calls(answer, named, at_most=at_once, ours_at_most=left)]}

    async def call_tool(
        call: ToolCall | InvalidToolCall, *, runtime: Runtime[TurnContext]
    ) -> dict[str, list[ToolMessage]]:
        """Run one tool call; whatever happens, the model gets a result for it."""
        offered_ours = ours(tools, runtime.context or TurnContext())  # type: ignore[truthy-bool]
        return {"messages": [await cancellable(tool_result(call, offered_ours))]}

    graph = StateGraph(AgentState, context_schema=TurnContext)
    graph.add_node("model", call_model)
    # Its input is one call, not the state; a declared input schema would become channels of the state.
    graph.add_node("tools", cast(Any, call_tool))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", after_model, ["tools", END])
    graph.add_conditional_edges("tools", after_tools, ["model", END])
    compiled = graph.compile(checkpointer=checkpointer, name=OUR_AGENT)
    return compiled.with_config({"max_concurrency": CALLS_AT_ONCE})


async def next_message(model: ChatModel, shown: Sequence[AnyMessage], offer: Offer, context: TurnContext) -> AIMessage:
    """Ask the model for tool calls or an answer.

    Endpoints that enforce a response format enforce it on tool calls too; the model then calls no tool and invents the
    answer. So tools are offered without the format. If none is called, the answer is asked for again, in the format and
    without tools.
    """
    parameters = context.parameters
    if not offer.tools or context.answer_format is None:
        return await model.answer(shown, tools=offer.tools, tool_choice=offer.choice, parameters=parameters)
    free = {name: value for name, value in parameters.items() if name != "response_format"}
    draft = await model.answer(shown, tools=offer.tools, tool_choice=offer.choice, parameters=free, streamed=False)
    if all_calls(draft):
        return draft.model_copy(update={"content": ""})  # text beside the calls would come before the JSON
    answer = await model.answer(shown, tools=(), parameters=parameters)
    usage = add_usage(draft.usage_metadata, answer.usage_metadata)
    return answer.model_copy(update={"usage_metadata": usage})


async def after_model(state: AgentState) -> list[Send] | str:
    """Send each call of our tools to the tool node on its own; without any the turn ends, or waits for the client."""
    last = state["messages"][-1] if state["messages"] else None
    if not isinstance(last, AIMessage):
        return END
    return [Send("tools", call) for call in our_calls(last)] or END


async def after_tools(state: AgentState) -> str:
    """Go back to the model, unless it also called the client's tools: then the client's results come first."""
    called = next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))
    return END if client_calls(called) else "model"


async def tool_result(call: ToolCall | InvalidToolCall, tools: Sequence[BaseTool]) -> ToolMessage:
    """Run a tool call and return its result; a failure is a result too, in words that the model can relay."""
    name = call["name"] or ""
    tool = next((tool for tool in tools if tool.name == name), None)
    if call["type"] == "invalid_tool_call":
        return _result(call, "The arguments of this tool call are not valid JSON.", "error")
    if tool is None:
        return _result(call, f"There is no tool called {name!r}.", "error")
    queue = queue_of_run.get()
    hears = progress_listener.set(lambda said: queue.tell(ToolProgress(call["id"] or "", said)) if queue else None)
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
    finally:
        progress_listener.reset(hears)
    content = message.content if has_tool_images([message]) else str(message.text)
    return _result(call, content, message.status)


async def cancellable(work: Coroutine[Any, Any, Result]) -> Result:
    """Await the work of a node; when the node is cancelled, cancel the work until it ends.

    LangGraph cancels a node once. If that cancellation is lost, the model goes on although nobody reads its answer.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await to_the_end(end_tasks({task}, again=CANCEL_AGAIN))
        if task.done() and not task.cancelled() and (error := task.exception()):
            log.warning("A step failed while it was stopped: %s", error)
        raise


def _result(
    call: ToolCall | InvalidToolCall, content: str | list[str | dict[Any, Any]], status: Literal["success", "error"]
) -> ToolMessage:
    return ToolMessage(content, tool_call_id=call["id"] or "", name=call["name"], status=status, id=str(uuid4()))
