"""The agents as LangGraph's own platform opens them, which is what LangGraph Studio shows.

The platform knows saver, graph and app only by their names in langgraph.json, so they meet here. It reads the list of
graphs from its environment after it has opened the saver, so the graphs of AGENTS are added to that list then.
"""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from graph.agent import AgentGraph
from graph.assembly import Assembly, open_agents
from graph.offline.settings import settings_or_embedded
from graph.settings import AgentSettings
from graph.state import OUR_AGENT
from graph.storage.saver import ThreadSaver

# Set by `langgraph dev` from langgraph.json.
GRAPHS = "LANGSERVE_GRAPHS"

_opened: list[Assembly] = []


@asynccontextmanager
async def open_saver() -> AsyncIterator[ThreadSaver]:
    """Open the agent for LangGraph's platform, which asks for its saver before anything else and closes it last."""
    async with open_agents(settings_or_embedded(AgentSettings)) as assembly:
        _opened.append(assembly)
        _tell_of_brought(assembly)
        try:
            yield assembly.checkpointer
        finally:
            _opened.remove(assembly)


@asynccontextmanager
async def opened_agents(_: AgentSettings) -> AsyncIterator[Assembly]:
    """Stand in for `open_agents` where the platform has opened the agent."""
    yield _opened[-1]


def _tell_of_brought(assembly: Assembly) -> None:
    """Let the platform find the graphs of AGENTS, by names in this module that its environment lists."""
    graphs = json.loads(os.environ.get(GRAPHS, "{}"))
    for name in assembly.agents.keys() - {OUR_AGENT}:
        globals()[f"brought_{name}"] = _maker(name)
        graphs[name] = f"{__name__}:brought_{name}"
    os.environ[GRAPHS] = json.dumps(graphs)


def _maker(name: str) -> Callable[[], Awaitable[AgentGraph]]:
    async def make() -> AgentGraph:
        """Return the graph once its tools are known; the platform puts its saver in."""
        assembly = _opened[-1]
        await assembly.toolbox.settled()
        return assembly.agents[name].unstored

    return make


make_graph = _maker(OUR_AGENT)
