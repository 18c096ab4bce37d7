"""Graphs that people bring: AGENTS names functions that build them, and each becomes an agent under its own name."""

import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool
from langgraph._internal._serde import build_serde_allowlist  # `compile` uses it; no public function does the same
from langgraph.channels import LastValue
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.agent import AgentGraph
from graph.model.client import ChatModel
from graph.storage.saver import ThreadSaver


class AgentsError(ValueError):
    """An entry of AGENTS cannot be used as an agent; the message says why."""


@dataclass(frozen=True)
class Factory:
    """A function that builds a graph, and the `module:function` that AGENTS names it by."""

    path: str
    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """The name of the agent."""
        return self.path.partition(":")[2]

    @property
    def takes(self) -> Collection[str]:
        """Which of `model` and `tools` the function has parameters for."""
        return inspect.signature(self.function).parameters.keys() & {"model", "tools"}

    def build(self, model: ChatModel, tools: Sequence[BaseTool], saver: ThreadSaver) -> tuple[AgentGraph, AgentGraph]:
        """Return the graph twice: with its threads stored, and without.

        The function gets the chat model of the settings and the tools of the MCP servers, if it takes them. Only the
        types of the graph's state may be read back from the database.

        Raises:
            AgentsError: the function returns no graph that adds to the `messages` of its state.
        """
        given = {"model": model, "tools": tools}
        try:
            built = self.function(**{name: given[name] for name in self.takes})
            graph = built.compile() if isinstance(built, StateGraph) else built
        except Exception as error:  # the function is not ours and may raise anything
            raise AgentsError(f"AGENTS: {self.path} failed: {error}.") from error
        messages = graph.channels.get("messages") if isinstance(graph, CompiledStateGraph) else None
        if messages is None or isinstance(messages, LastValue):
            raise AgentsError(f"AGENTS: {self.path} must return a LangGraph graph with the state of MessagesState.")
        types = build_serde_allowlist(schemas=[graph.builder.state_schema], channels=graph.channels)
        stored = graph.copy(update={"checkpointer": saver.with_allowlist(types)})
        return stored, graph.copy(update={"checkpointer": None})


def load_factory(path: str) -> Factory:
    """Return the function that `module:function` names; the module may be a file in the working folder.

    Raises:
        AgentsError: there is no such function.
    """
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # the module is not ours and may raise anything
        raise AgentsError(f"AGENTS: {path} cannot be loaded: {error}.") from error
    if not callable(function):
        raise AgentsError(f"AGENTS: {path} is no function that returns a graph.")
    return Factory(path, function)
