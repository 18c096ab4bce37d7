"""The agent as a graph: a model node, a node that asks a person, and a tool node with a `Send` for each tool call."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import add_usage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from graph.approval import (
    Approval,
    decided,
    load_decisions,
    question,
    waiting,
    waiting_calls,
)
from graph.event_queue import queue_of_run
from graph.history import (
    all_calls,
    calls_run,
    client_calls,
    messages_after,
    our_calls,
    paired,
    results_after,
    tool_rounds,
    with_client_calls,
)
from graph.model.client import ChatModel
from graph.offers import Offer, offered, ours
from graph.prompts import DEFAULT_PROMPT, layered_prompt
from graph.state import OUR_AGENT, AgentState, TurnContext, tool_names
from graph.tool_run import ToolRun, approved_result
from graph.window import Window
from tools.tasks import cancellable

MAX_TOOL_ROUNDS = 8
# Tool calls of one answer that run at the same time; the others wait.
CALLS_AT_ONCE = 16

AgentGraph = CompiledStateGraph[AgentState, TurnContext, AgentState, AgentState]


def build_agent(
    model: ChatModel,
    tools: Sequence[BaseTool] = (),
    *,
    checkpointer: BaseCheckpointSaver[str] | None = None,
    prompt: str = DEFAULT_PROMPT,
    max_tool_rounds: int = MAX_TOOL_ROUNDS,
    window: Window | None = None,
    approval: Approval | None = None,
) -> AgentGraph:
    """Compile the graph.

    Args:
        model: answers, or calls tools.
        tools: read anew in every step, so that a live sequence may change between them.
        checkpointer: keeps the threads; None keeps nothing.
        prompt: what the model is told before every conversation.
        max_tool_rounds: messages with tool calls in a turn, after which the model must answer.
        window: fits long conversations; None sends them whole.
        approval: which tools wait for a person; None for none.
    """

    async def call_model(
        state: AgentState, *, runtime: Runtime[TurnContext]
    ) -> dict[str, list[AIMessage]] | Command[str]:
        """Ask the model for its next message; in the last round it gets no tools and must answer.

        A turn that decides about calls goes on with these. The graph's start could lead to them, but an edge that looks
        at the state costs every turn 7 %.
        """
        context, thread, messages = context_of(runtime), thread_of(runtime), state["messages"]
        if begins_with_approval(messages, context):
            return Command(goto="approval")
        system = SystemMessage(layered_prompt(prompt, context.instructions, datetime.now().date()))
        left = None if context.max_tool_calls is None else max(context.max_tool_calls - calls_run(messages), 0)
        rounds = 0 if left == 0 else max_tool_rounds
        offer = offered(tools, context, rounds=tool_rounds(messages), max_rounds=rounds)
        ask = partial(next_message, model, offer, context)
        shown = paired(messages)
        asking = window.answer(ask, system, shown, offer.tools, context, thread) if window else ask([system, *shown])
        answer = await cancellable(asking)
        at_once = 1 if context.parameters.get("parallel_tool_calls") is False else None
        told = queue.told_calls if (queue := queue_of_run.get()) else ()
        named = tool_names(context.callable_tools)
        message = with_client_calls(answer, named, told=told, at_most=at_once, ours_at_most=left)
        return {"messages": [approval.noted(message, ours(tools, context)) if approval and thread else message]}

    async def ask_person(state: AgentState, *, runtime: Runtime[TurnContext]) -> dict[str, list[AnyMessage]]:
        """Wait for a person to decide about calls, unless that is what the turn begins with."""
        message = waiting(state["messages"])
        assert message is not None
        thread, decisions = thread_of(runtime), context_of(runtime).decided_about(message)
        if decisions is None:
            decisions = load_decisions(interrupt(question(message)), waiting_calls(message))
        begun = await approval.calls.begun(thread, str(message.id)) if approval and thread else {}
        return {"messages": [*decided(message, decisions, begun)]}

    async def call_tool(run: ToolRun, *, runtime: Runtime[TurnContext]) -> dict[str, list[ToolMessage]]:
        """Run one tool call; whatever happens, the model gets a result for it."""
        running = approved_result(run, ours(tools, context_of(runtime)), approval, thread_of(runtime))
        return {"messages": [await cancellable(running)]}

    graph = StateGraph(AgentState, context_schema=TurnContext)
    graph.add_node("model", call_model)
    graph.add_node("approval", ask_person)
    # Its input is one call, not the state.
    graph.add_node("tools", cast(Any, call_tool))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", after_model, ["approval", "tools", END])
    graph.add_conditional_edges("approval", after_approval, ["tools", "model", END])
    graph.add_conditional_edges("tools", after_tools, ["model", END])
    compiled = graph.compile(checkpointer=checkpointer, name=OUR_AGENT)
    return compiled.with_config({"max_concurrency": CALLS_AT_ONCE})


async def next_message(model: ChatModel, offer: Offer, context: TurnContext, shown: Sequence[AnyMessage]) -> AIMessage:
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


def begins_with_approval(messages: Sequence[AnyMessage], context: TurnContext) -> bool:
    """Whether there are calls that come before the model.

    A person has decided about them; or they still wait, since nothing came after them but results of other calls.
    """
    message = waiting(messages)
    if message is None:
        return False
    later, answered = messages_after(message, messages), results_after(message, messages)
    if any(call["id"] in answered for call in waiting_calls(message)):
        return False
    still_wait = bool(later) and all(isinstance(one, ToolMessage) for one in later)
    return still_wait or context.decided_about(message) is not None


async def after_model(state: AgentState) -> list[Send] | str:
    """Send each call of our tools to the tool node on its own, after a person has approved those that need it.

    Without any the turn ends, or waits for the client.
    """
    last = state["messages"][-1] if state["messages"] else None
    if not isinstance(last, AIMessage):
        return END
    return "approval" if waiting_calls(last) else runs_of(last, ()) or END


async def after_approval(state: AgentState) -> list[Send] | str:
    """Send the calls of our tools that were not refused to the tool node; without any the model goes on."""
    called = waiting(state["messages"])
    assert called is not None
    return runs_of(called, results_after(called, state["messages"])) or after_results(called, state["messages"])


async def after_tools(state: AgentState) -> str:
    """Go on after the results of the last calls."""
    called = next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))
    return after_results(called, state["messages"])


def after_results(called: AIMessage, messages: Sequence[AnyMessage]) -> str:
    """Go back to the model, unless it also called the client's tools: then the client's results come first."""
    return END if client_calls(called) - results_after(called, messages) else "model"


def runs_of(called: AIMessage, done: Collection[str]) -> list[Send]:
    """Return what the tool node does for a message of the model: its calls of our tools that have no result."""
    approved = {call["id"] for call in waiting_calls(called)}
    return [
        Send("tools", (call, called.id if call["id"] in approved else None))
        for call in our_calls(called)
        if call["id"] not in done
    ]


def context_of(runtime: Runtime[TurnContext]) -> TurnContext:
    """Return what a turn asks for beside its messages."""
    context: TurnContext | None = runtime.context  # None where the caller gave none, as in a notebook
    return context or TurnContext()


def thread_of(runtime: Runtime[TurnContext]) -> str | None:
    """Return the thread of a run, or None if it is not kept."""
    return runtime.execution_info.thread_id if runtime.execution_info else None
