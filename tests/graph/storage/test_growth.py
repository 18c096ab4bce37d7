"""What a long session takes on disk, and that every turn of it can be gone back to."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from graph.agent import build_agent
from graph.model.client import open_model
from graph.settings import AgentSettings
from graph.storage.opening import open_checkpointer
from tests.support.agent_server import AgentServer, agent_server
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

DATABASE = "sqlite:///data/chat-agent.db"
TURNS = 200
BAR = 6_000_000


def grow(server: AgentServer, upstream: Upstream, turns: int, session: str) -> None:
    """Take turns of a 200-byte question, a 1 kB tool result and a 600-byte answer each."""
    for number in range(turns):
        found = f"{number} found ".ljust(1000, "x")
        upstream.script(
            Answer(calls=[Call("echo", json.dumps({"text": found}))]), Answer([f"{number} answer ".ljust(600, "y")])
        )
        server.ask(f"{number} question ".ljust(200, "z"), session=session)


def echoing(folder: Path) -> Path:
    """The settings of an MCP server that gives back what it gets."""
    path = folder / "mcp.json"
    arguments = ["-m", "tests.support.mcp_servers", "stdio", str(folder / "calls")]
    entry = {"command": sys.executable, "args": arguments, "env": {"PYTHONPATH": str(ROOT)}}
    path.write_text(json.dumps({"mcpServers": {"echo": entry}}))
    return path


@pytest.mark.nightly
async def test_two_hundred_tool_turns_stay_small_and_every_one_can_be_gone_back_to(
    tmp_path: Path, upstream: Upstream, upstream_url: str
) -> None:
    with agent_server(ollama_base_url=upstream_url, mcp_config=echoing(tmp_path), checkpoint_url=DATABASE) as server:
        until(lambda: httpx.get(f"{server.url}/ready").json()["mcp"]["echo"]["state"] == "ready", within=20)
        grow(server, upstream, TURNS, "s")
        assert sum(file.stat().st_size for file in Path("data").iterdir()) <= BAR

    with sqlite3.connect("data/chat-agent.db") as database:
        turns = database.execute("SELECT thread_id, checkpoint_id FROM turns ORDER BY turn").fetchall()
    database.close()
    settings = AgentSettings(ollama_model="-", ollama_base_url=upstream_url)
    async with open_checkpointer(DATABASE) as saver, open_model(settings) as model:
        agent = build_agent(model, checkpointer=saver)

        async def messages(config: RunnableConfig) -> list[AnyMessage]:
            state: dict[str, Any] = (await agent.aget_state(config)).values
            return [*state["messages"]]

        at: list[RunnableConfig] = [
            {"configurable": {"thread_id": thread, "checkpoint_id": checkpoint, "checkpoint_ns": ""}}
            for thread, checkpoint in turns
        ]
        whole = await messages(at[-1])
        assert [message.type for message in whole] == ["human", "ai", "tool", "ai"] * TURNS
        assert {len(str(message.content)) for message in whole} == {0, 200, 600, 1000}
        for number, config in enumerate(at, 1):
            forked = await agent.aupdate_state(config, {"messages": [HumanMessage("fork", id="f")]}, as_node="model")
            assert await messages(forked) == [*whole[: 4 * number], HumanMessage("fork", id="f")]
        for number, config in enumerate(at, 1):
            assert await messages(config) == whole[: 4 * number]
