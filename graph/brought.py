"""Graphs that people bring: AGENTS names functions that build them, and each becomes an agent under its own name."""

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.agent import AgentGraph
from graph.model.client import ChatModel
from graph.storage.saver import ThreadSaver

Factory = Callable[..., Any]


class AgentsError(ValueError):
    """AGENTS names something that is no agent; the message says what is wrong."""


def load_factory(path: str) -> tuple[str, Factory]:
    """Return the function that `module:function` names, which may be a file in the working folder, and its name.

    Raises:
        AgentsError: there is none.
    """
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(import_module(module), name)
    except Exception as error:  # whatever happens in somebody else's module
        raise AgentsError(f"AGENTS: {path} cannot be loaded: {error}.") from error
    if not callable(factory):
        raise AgentsError(f"AGENTS: {path} is no function that returns a graph.")
    return name, factory


def build_brought(
    factory: Factory, model: ChatModel, tools: Sequence[BaseTool], saver: ThreadSaver
) -> tuple[AgentGraph, AgentGraph]:
    """Return a factory's graph twice: with its threads stored, and without.

    It is called with `model`, the chat model of the settings, and `tools`, those of the MCP servers, if it takes them.

    Raises:
        AgentsError: it returns no graph with `messages` in its state.
    """
    path = f"{factory.__module__}:{factory.__name__}"
    given = {"model": model, "tools": tools}
    takes = inspect.signature(factory).parameters
    try:
        built = factory(**{name: value for name, value in given.items() if name in takes})
        graph = built.compile(name=factory.__name__) if isinstance(built, StateGraph) else built
    except Exception as error:
        raise AgentsError(f"AGENTS: {path} failed: {error}.") from error
    if not isinstance(graph, CompiledStateGraph) or "messages" not in graph.channels:
        raise AgentsError(f"AGENTS: {path} must return a LangGraph graph whose state has `messages`.")
    return graph.copy(update={"checkpointer": saver}), graph.copy(update={"checkpointer": None})
