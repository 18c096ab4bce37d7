"""The one assembly of the agent, for the server and for LangGraph's own platform."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from graph.agent import AgentGraph, build_agent
from graph.model.client import ChatModel, open_model
from graph.offline.process import EmbeddedModel
from graph.offline.settings import UNSTARTED, answered_by, settings_or_embedded
from graph.run import Agent
from graph.settings import AgentSettings
from graph.storage.opening import open_checkpointer
from graph.storage.saver import ThreadSaver
from tools.mcp.config import bundled_server, http_server, load_servers
from tools.mcp.spec import ServerSpec
from tools.mcp.toolbox import Toolbox


@dataclass(frozen=True)
class Assembly:
    """The agent with the parts that it was built from, open for as long as it is."""

    agent: Agent
    model: ChatModel
    toolbox: Toolbox
    checkpointer: ThreadSaver


@asynccontextmanager
async def open_agent(settings: AgentSettings) -> AsyncIterator[Assembly]:
    """Open model, checkpointer and tools, build the agent on them, and close them in reverse order."""
    async with (
        embedded_where_named(settings) as settings,
        open_checkpointer(settings.checkpoint_url) as checkpointer,
        open_tools(settings) as toolbox,
        open_model(settings) as model,
    ):
        build = partial(
            build_agent, model, toolbox, prompt=settings.system_prompt, max_tool_rounds=settings.max_tool_rounds
        )
        agent = Agent(build(checkpointer=checkpointer), build(), toolbox)
        yield Assembly(agent, model, toolbox, checkpointer)


# The platform knows saver, graph and app only by their names in langgraph.json, so they meet here.
_opened: list[Assembly] = []


@asynccontextmanager
async def open_saver() -> AsyncIterator[ThreadSaver]:
    """Open the agent for LangGraph's platform, which asks for its saver before anything else and closes it last."""
    async with open_agent(settings_or_embedded(AgentSettings)) as assembly:
        _opened.append(assembly)
        try:
            yield assembly.checkpointer
        finally:
            _opened.remove(assembly)


@asynccontextmanager
async def opened_agent(_: AgentSettings) -> AsyncIterator[Assembly]:
    """Stand in for `open_agent` where the platform has opened the agent."""
    yield _opened[-1]


async def make_graph() -> AgentGraph:
    """Return the platform's graph, once it is known which tools there are; the platform puts its saver in."""
    assembly = _opened[-1]
    await assembly.toolbox.settled()
    return assembly.agent.unstored


@asynccontextmanager
async def embedded_where_named(settings: AgentSettings) -> AsyncIterator[AgentSettings]:
    """Start the embedded model if the settings name it, and yield them with its address.

    Raises:
        WeightsError: there is no file of the model to be had.
        EmbeddedModelError: it does not start.
    """
    if settings.ollama_base_url != UNSTARTED:
        yield settings
        return
    from graph.offline.weights import find_weights  # needs the demo's extra packages

    with ThreadPoolExecutor(1) as beside:  # its thread stays: the model ends with the thread that started it
        loop = asyncio.get_running_loop()
        model = EmbeddedModel(await loop.run_in_executor(beside, find_weights, settings.embedded_model))
        await loop.run_in_executor(beside, model.__enter__)
        try:
            yield answered_by(model, settings)
        finally:
            await loop.run_in_executor(beside, model.__exit__, None, None, None)


def open_tools(settings: AgentSettings) -> Toolbox:
    """Return the tools of the MCP servers that the settings name, to be entered."""
    return Toolbox(
        mcp_servers(settings), call_timeout=settings.mcp_call_timeout, start_timeout=settings.mcp_start_timeout
    )


def mcp_servers(settings: AgentSettings) -> Mapping[str, ServerSpec]:
    """Return the MCP servers that the settings name; the bundled one, over stdio, where they name none.

    Raises:
        McpConfigError: the file of servers cannot be used.
    """
    if not settings.use_mcp_tools:
        return {}
    servers = load_servers(settings.mcp_config, verify_ssl=settings.mcp_verify_ssl) if settings.mcp_config else {}
    if settings.mcp_base_url:
        names = ("mcp", *(f"mcp_{number}" for number in range(2, len(servers) + 3)))
        free = next(name for name in names if name not in servers)
        servers[free] = http_server(settings.mcp_base_url, verify_ssl=settings.mcp_verify_ssl)
    return servers or {"bundled": bundled_server()}
