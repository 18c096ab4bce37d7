"""What a graph does, as events: our own graph and those that users bring."""

import logging
import operator
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from graph.event_queue import EventQueue
from graph.events import MessageEnded, RunEvent, Text, ToolEnded, ToolStarted
from graph.run import Agent, Position
from graph.state import TurnContext
from graph.storage.run_saver import Loaded, PutCheckpoint, RunSaver
from tools.mcp.toolbox import Toolbox

QUESTION = HumanMessage("hello", id="q")


class State(MessagesState):
    """Messages, and something beside them."""

    notes: Annotated[list[str], operator.add]


def agent_of(*nodes: Any) -> Agent:
    """An agent whose graph is these nodes, one after the other."""
    graph = StateGraph(State).add_sequence(list(nodes)).add_edge(START, nodes[0].__name__)
    compiled: Any = graph.compile(checkpointer=InMemorySaver())
    unstored: Any = graph.compile()
    return Agent("brought", compiled, unstored, Toolbox({}, call_timeout=1, start_timeout=1))


def note(_: State) -> dict[str, list[str]]:
    return {"notes": ["a note"]}


def nothing(_: State) -> None:
    return None


def greet(_: State) -> dict[str, Any]:
    return {"messages": [AIMessage("Hello.", id="a")]}


def echo(state: State) -> dict[str, Any]:
    return {"messages": [*state["messages"], ("ai", "Again.")]}


def commanded(_: State) -> Command[Any]:
    return Command(update={"messages": AIMessage("By command.", id="c")})


def look_up(_: State) -> dict[str, Any]:
    call = ToolCall(name="look_up", args={"word": "tree"}, id="call-1")
    result = ToolMessage("It has leaves.", tool_call_id="call-1", id="t")
    return {"messages": [AIMessage("", id="a", tool_calls=[call]), result]}


def ask(_: State) -> dict[str, Any]:
    return {"messages": [AIMessage(interrupt("May I?"))]}


async def events(agent: Agent, after: Position | None = None) -> list[RunEvent]:
    """All that a run of the question yields."""
    queue, saver = EventQueue(), RunSaver(agent.saver, Loaded(None, {}), None)
    await agent.run([QUESTION], TurnContext(), queue, after=after, saver=saver)
    store(agent, saver)
    return queue.events


def store(agent: Agent, saver: RunSaver) -> None:
    """Store what a run has put."""
    for put in saver.puts:
        if isinstance(put, PutCheckpoint):
            agent.saver.put(*put)
        else:
            agent.saver.put_writes(*put)


@pytest.mark.parametrize("after", [None, Position("thread")], ids=["unstored", "stored"])
async def test_nodes_need_not_write_messages(after: Position | None) -> None:
    assert await events(agent_of(note, nothing, greet), after) == [Text("a", "Hello."), MessageEnded("a", None, None)]


async def test_messages_that_were_there_are_not_said_again() -> None:
    first, _, again, _ = await events(agent_of(greet, echo))
    assert first == Text("a", "Hello.")
    assert isinstance(again, Text)
    assert again.text == "Again."


async def test_a_command_s_messages_are_said() -> None:
    assert await events(agent_of(commanded)) == [Text("c", "By command."), MessageEnded("c", None, None)]


async def test_tools_of_a_graph_s_own_are_told_of() -> None:
    assert await events(agent_of(look_up)) == [
        MessageEnded("a", None, None, has_calls=True),
        ToolStarted("call-1", "look_up", {"word": "tree"}, "brought"),
        ToolEnded("call-1", failed=False, output="It has leaves."),
    ]


async def test_a_graph_that_waits_for_a_person_ends_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert await events(agent_of(note, ask), Position("thread")) == []
    assert "waits for a person" in caplog.text


async def test_a_thread_is_read_and_amended_where_it_is() -> None:
    agent, thread = agent_of(greet), Position("thread")
    assert await agent.read(thread) == []
    await events(agent, thread)
    assert [message.text for message in await agent.read(thread)] == ["hello", "Hello."]
    saver = RunSaver(agent.saver, Loaded(await agent.saver.aget_tuple(thread.config), {}), None)
    await agent.amend(thread, [AIMessage("Hel", id="a")], saver)
    assert [message.text for message in await agent.read(thread, saver)] == ["hello", "Hel"]
    assert [message.text for message in await agent.read(thread)] == ["hello", "Hello."]
    store(agent, saver)
    assert [message.text for message in await agent.read(thread)] == ["hello", "Hel"]
