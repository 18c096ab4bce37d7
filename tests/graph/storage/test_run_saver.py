"""The saver of one run reads as if all were stored, and writes nothing."""

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from graph.agent import AgentGraph
from graph.run import on
from graph.storage.run_saver import Loaded, PutCheckpoint, RunSaver

CONFIG: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
NOTHING = Loaded(None, {})


def at(checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {**CONFIG["configurable"], "checkpoint_id": checkpoint_id}}


async def put(saver: RunSaver, config: RunnableConfig) -> RunnableConfig:
    return await saver.aput(config, empty_checkpoint(), {"source": "loop", "step": 0}, {})


async def test_what_a_run_put_is_read_by_the_run_and_by_nobody_else() -> None:
    stored = InMemorySaver()
    saver = RunSaver(stored, NOTHING, None)
    assert await saver.aget_tuple(CONFIG) is None
    first = await put(saver, CONFIG)
    second = await put(saver, first)
    await saver.aput_writes(second, [("messages", "hello")], "task")
    latest = await saver.aget_tuple(CONFIG)
    assert latest is not None
    assert (latest.config, latest.parent_config) == (second, first)
    assert latest.pending_writes == [("task", "messages", "hello")]
    assert saver.last_checkpoint_id == second["configurable"]["checkpoint_id"]
    earlier = await saver.aget_tuple(first)
    assert earlier is not None
    assert earlier.config == first
    assert await stored.aget_tuple(CONFIG) is None


async def test_graphs_within_have_checkpoints_of_their_own() -> None:
    saver = RunSaver(InMemorySaver(), NOTHING, None)
    own = await put(saver, CONFIG)
    inner: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": "inner"}}
    await put(saver, inner)
    assert saver.last_checkpoint_id == own["configurable"]["checkpoint_id"]
    found = await saver.aget_tuple(inner)
    assert found is not None
    assert found.config["configurable"]["checkpoint_ns"] == "inner"


@pytest.mark.parametrize("is_named", [True, False])
async def test_what_was_read_before_is_not_read_again(is_named: bool) -> None:
    class Silent(InMemorySaver):
        async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
            raise AssertionError(config)

    checkpoint = empty_checkpoint()
    read = CheckpointTuple(at(checkpoint["id"]), checkpoint, {"source": "loop", "step": 0}, None, [])
    saver = RunSaver(Silent(), Loaded(read, {"messages": {"writes": []}}), checkpoint["id"] if is_named else None)
    assert await saver.aget_tuple(at(checkpoint["id"]) if is_named else CONFIG) == read
    config = at(checkpoint["id"])
    assert await saver.aget_delta_channel_history(config=config, channels=["messages"]) == {"messages": {"writes": []}}


async def test_a_graph_goes_on_from_what_its_run_has_put() -> None:
    def greet(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", f"Hello {len(state['messages'])}.")]}

    built: Any = (
        StateGraph(MessagesState).add_node(greet).add_edge(START, "greet").compile(checkpointer=InMemorySaver())
    )
    graph: AgentGraph = built
    saver = RunSaver(built.checkpointer, NOTHING, None)
    for _ in range(2):
        await on(graph, saver).ainvoke({"messages": [HumanMessage("hi")]}, CONFIG, durability="exit")
    state = await on(graph, saver).aget_state(CONFIG)
    assert [str(message.text) for message in state.values["messages"]] == ["hi", "Hello 1.", "hi", "Hello 3."]
    assert (await graph.aget_state(CONFIG)).values == {}
    assert all(isinstance(item, PutCheckpoint) for item in saver.puts)
