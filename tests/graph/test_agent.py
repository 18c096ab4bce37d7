"""The graph by itself, in process, without the server."""

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool

from graph.agent import build_agent
from graph.model.client import open_model
from graph.settings import AgentSettings
from graph.storage.opening import open_checkpointer
from tests.support.mcp_servers import PIXEL
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Upstream

# A line of the graph's picture: from a node, over a whole or a dashed arrow, to another.
EDGE = re.compile(r"^    (\w+)(?:\(\[.*?\]\)|\[.*?\])? (-->|-\. .*? \.->) (\w+)", re.MULTILINE)
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def settings_for(url: str) -> AgentSettings:
    """Settings of a model at an address."""
    return AgentSettings(ollama_model="test-model", ollama_base_url=url)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail() -> str:
    """Fail with a secret in the message."""
    raise RuntimeError("password=hunter2")


@tool
async def cancel_itself() -> str:
    """Do what a broken transport does to the task that calls it."""
    raise asyncio.CancelledError


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
async def test_the_picture_of_the_graph_is_the_graph(page: str) -> None:
    async with open_model(settings_for("http://127.0.0.1")) as model:
        edges = build_agent(model).get_graph().edges
    drawn = EDGE.findall((ROOT / page).read_text())
    assert {(source, arrow.endswith(".->"), target) for source, arrow, target in drawn} == {
        (edge.source, edge.conditional, edge.target) for edge in edges
    }


async def test_the_agent_runs_in_process_with_tools_of_its_own(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(calls=[Call("add", '{"a": 2, "b": 3}')]), Answer(["5"]))
    async with open_model(settings_for(upstream_url)) as model:
        result = await build_agent(model, [add]).ainvoke({"messages": [HumanMessage("2 + 3?")]})
    assert [message.text for message in result["messages"]] == ["2 + 3?", "", "5", "5"]


@pytest.mark.parametrize("name", ["fail", "cancel_itself"])
async def test_a_tool_that_breaks_is_a_result_without_its_details(
    upstream: Upstream, upstream_url: str, name: str
) -> None:
    upstream.script(Answer(calls=[Call(name, "{}")]), Answer(["Sorry."]))
    async with open_model(settings_for(upstream_url)) as model:
        result = await build_agent(model, [fail, cancel_itself]).ainvoke({"messages": [HumanMessage("Do it.")]})
    assert result["messages"][2].text == f"The tool {name!r} failed."
    assert result["messages"][2].status == "error"


async def test_a10_a_tool_that_loses_its_cancellation_is_cancelled_again(upstream: Upstream, upstream_url: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def lose_it() -> str:
        """Lose a cancellation, as `asyncio.wait_for` may, and go on."""
        begun.set()
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "unreachable"

    upstream.script(Answer(calls=[Call("lose_it", "{}")]))
    async with open_model(settings_for(upstream_url)) as model, asyncio.timeout(10):
        run = asyncio.create_task(build_agent(model, [lose_it]).ainvoke({"messages": [HumanMessage("Do it.")]}))
        await begun.wait()
        run.cancel()
        await asyncio.wait({run})
        assert run.cancelled()
        assert ended.is_set()


async def test_m13_images_in_a_result_are_kept_and_shown(upstream: Upstream, upstream_url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}

    @tool
    async def draw() -> list[dict[str, Any]]:
        """Draw a dot."""
        return [{"type": "text", "text": "A dot:"}, image]

    upstream.script(Answer(calls=[Call("draw", "{}")]), Answer(["Nice."]))
    async with open_model(settings_for(upstream_url)) as model:
        result = await build_agent(model, [draw]).ainvoke({"messages": [HumanMessage("Draw.")]})
    assert result["messages"][2].content[1] == image
    *_, told, shown = upstream.last["messages"]
    assert (told["role"], told["content"]) == ("tool", "A dot:")
    assert (shown["role"], shown["content"][-1]) == ("user", image)


async def test_tools_may_come_and_go_between_the_steps(upstream: Upstream, upstream_url: str) -> None:
    tools: list[BaseTool] = []
    async with open_model(settings_for(upstream_url)) as model:
        agent = build_agent(model, tools)
        await agent.ainvoke({"messages": [HumanMessage("hello")]})
        assert "tools" not in upstream.last
        tools.append(add)
        await agent.ainvoke({"messages": [HumanMessage("hello")]})
    assert [offered["function"]["name"] for offered in upstream.last["tools"]] == ["add"]


async def test_a_turn_is_one_checkpoint_and_every_one_can_be_forked(upstream_url: str) -> None:
    async with open_model(settings_for(upstream_url)) as model, open_checkpointer("sqlite:///fork.db") as saver:
        agent = build_agent(model, checkpointer=saver)
        for turn in range(4):
            await agent.ainvoke({"messages": [HumanMessage(f"question {turn}")]}, THREAD, durability="exit")
        history = [state async for state in agent.aget_state_history(THREAD)]
        turns = [state for state in history if state.values.get("messages")]
        assert [len(state.values["messages"]) for state in turns] == [8, 6, 4, 2]
        await agent.ainvoke({"messages": [HumanMessage("another way")]}, turns[2].config, durability="exit")
        forked = await agent.aget_state(THREAD)
    async with open_checkpointer("sqlite:///fork.db") as saver:
        reopened = await build_agent(model, checkpointer=saver).aget_state(THREAD)
    asked = ["question 0", "question 1", "another way"]
    for state in (forked, reopened):
        assert [message.text for message in state.values["messages"]][::2] == asked


async def test_storage_grows_with_what_is_said(upstream_url: str) -> None:
    sizes = []
    async with open_model(settings_for(upstream_url)) as model, open_checkpointer("sqlite:///growth.db") as saver:
        agent = build_agent(model, checkpointer=saver)
        for _ in range(2):
            for turn in range(20):
                await agent.ainvoke({"messages": [HumanMessage(f"{turn} " * 50)]}, THREAD, durability="exit")
            sizes.append(sum(path.stat().st_size for path in Path().glob("growth.db*")))
    assert sizes[1] < 2.5 * sizes[0]
