"""Build the agents from the settings, for the server and for LangGraph's own platform."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from graph.agent import build_agent
from graph.approval import Approval
from graph.brought import AgentsError, load_factory
from graph.model.client import ChatModel, open_model
from graph.offline.process import EmbeddedModel
from graph.offline.settings import UNSTARTED, answered_by
from graph.run import Agent
from graph.settings import AgentSettings
from graph.state import OUR_AGENT
from graph.storage.approved_calls import ApprovedCalls
from graph.storage.opening import open_checkpointer
from graph.storage.saver import ThreadSaver
from graph.storage.summaries import Summaries
from graph.window import Window
from tools.mcp.config import bundled_server, http_server, load_servers
from tools.mcp.spec import ServerSpec
from tools.mcp.toolbox import Toolbox


@dataclass(frozen=True)
class Assembly:
    """The agents with the parts that they were built from, open for as long as they are."""

    agents: Mapping[str, Agent]
    """By their names: ours is `chat-agent`, others are those that AGENTS names."""
    model: ChatModel
    toolbox: Toolbox
    checkpointer: ThreadSaver
    window: Window


@asynccontextmanager
async def open_agents(settings: AgentSettings) -> AsyncIterator[Assembly]:
    """Open model, checkpointer and tools, build the agents on them, and close them in reverse order.

    Raises:
        AgentsError: AGENTS names something that is no agent.
    """
    async with (
        embedded_where_named(settings) as settings,
        open_checkpointer(settings.checkpoint_url) as checkpointer,
        open_tools(settings) as toolbox,
        open_model(settings) as model,
    ):
        window = Window(model, settings.context_window, Summaries(checkpointer.database))
        build = partial(
            build_agent,
            model,
            toolbox,
            prompt=settings.system_prompt,
            max_tool_rounds=settings.max_tool_rounds,
            window=window,
            approval=Approval(settings.approve_tools, ApprovedCalls(checkpointer.database)),
        )
        agents = {OUR_AGENT: Agent(OUR_AGENT, build(checkpointer=checkpointer), build(), toolbox, is_ours=True)}
        for factory in map(load_factory, settings.agents):
            if factory.name in agents:
                raise AgentsError(f"AGENTS: two functions are called {factory.name}.")
            if "tools" in factory.takes:
                await toolbox.settled()  # such a graph keeps the tools that it was built with
            agents[factory.name] = Agent(factory.name, *factory.build(model, toolbox, checkpointer), toolbox)
        yield Assembly(agents, model, toolbox, checkpointer, window)


@asynccontextmanager
async def embedded_where_named(settings: AgentSettings) -> AsyncIterator[AgentSettings]:
    """Start the embedded model if the settings name it, and yield them with its address.

    Raises:
        WeightsError: the model's file cannot be found or fetched.
        EmbeddedModelError: the child process does not start.
    """
    if settings.ollama_base_url != UNSTARTED:
        yield settings
        return
    from graph.offline.weights import find_weights  # needs the demo's extra packages

    with ThreadPoolExecutor(1) as beside:  # the child process dies with the thread that started it
        loop = asyncio.get_running_loop()
        model = EmbeddedModel(await loop.run_in_executor(beside, find_weights, settings.embedded_model))
        await loop.run_in_executor(beside, model.__enter__)
        try:
            yield answered_by(model, settings)
        finally:
            await loop.run_in_executor(beside, model.__exit__, None, None, None)


def open_tools(settings: AgentSettings) -> Toolbox:
    """Return the tools of the MCP servers that the settings name; entering it connects to them."""
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
