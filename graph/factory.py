"""The one assembly of the agent, for the server and for LangGraph's own platform."""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_mcp_adapters.sessions import Connection
from pydantic import SecretStr, ValidationError

from graph.agent import Agent, build_agent
from graph.checkpoints import ShieldedSqliteSaver, open_checkpointer
from graph.model import ChatModel, open_model
from graph.settings import AgentSettings
from tools.mcp_client import Toolbox
from tools.mcp_config import bundled_connection, http_connection, load_connections

log = logging.getLogger(__name__)

NO_MODEL = {("ollama_model", "missing"), ("ollama_base_url", "missing")}


@dataclass(frozen=True)
class Assembly:
    """The agent with the parts that it was built from, open for as long as it is."""

    agent: Agent
    unstored_agent: Agent
    model: ChatModel
    toolbox: Toolbox
    checkpointer: ShieldedSqliteSaver


@asynccontextmanager
async def open_agent(settings: AgentSettings) -> AsyncIterator[Assembly]:
    """Open checkpointer and tools, build the agent on them, and close them in reverse order."""
    async with (
        open_checkpointer(settings.checkpoint_url) as checkpointer,
        Toolbox(mcp_connections(settings)) as toolbox,
        open_model(settings) as model,
    ):
        build = partial(
            build_agent, model, toolbox, prompt=settings.system_prompt, max_tool_rounds=settings.max_tool_rounds
        )
        yield Assembly(build(checkpointer=checkpointer), build(), model, toolbox, checkpointer)


# The platform knows saver, graph and app only by their names in langgraph.json, so they meet here.
_opened: list[Assembly] = []


@asynccontextmanager
async def open_saver() -> AsyncIterator[ShieldedSqliteSaver]:
    """Open the agent for LangGraph's platform, which asks for its saver before anything else and closes it last."""
    async with open_agent(AgentSettings()) as assembly:
        _opened.append(assembly)
        try:
            yield assembly.checkpointer
        finally:
            _opened.remove(assembly)


@asynccontextmanager
async def opened_agent(_: AgentSettings) -> AsyncIterator[Assembly]:
    """Stand in for `open_agent` where the platform has opened the agent."""
    yield _opened[-1]


async def make_graph() -> Agent:
    """Return the platform's graph, once it is known which tools there are; the platform puts its saver in."""
    assembly = _opened[-1]
    await assembly.toolbox.settled()
    return assembly.unstored_agent


@contextmanager
def settings_or_embedded(**given: Any) -> Iterator[AgentSettings]:
    """Read the settings; where they name no model, start the embedded one, which answers until the context ends.

    Raises:
        ValidationError: a setting is wrong, or only one of the model's two is there.
        WeightsError: there is no file of the embedded model to be had.
        EmbeddedModelError: it does not start.
    """
    try:
        settings = AgentSettings(**given)
    except ValidationError as error:
        if {(*detail["loc"], detail["type"]) for detail in error.errors()} != NO_MODEL:
            raise
    else:
        yield settings
        return
    from graph.embedded import MODEL_NAME, EmbeddedModel
    from graph.weights import find_weights  # needs the demo's extra packages

    settings = AgentSettings(ollama_model=MODEL_NAME, ollama_base_url="http://127.0.0.1", **given)
    with EmbeddedModel(find_weights(settings.embedded_model)) as model:
        endpoint = {"ollama_base_url": model.base_url, "ollama_api_key": SecretStr(model.api_key)}
        yield settings.model_copy(update=endpoint)


def mcp_connections(settings: AgentSettings) -> Mapping[str, Connection]:
    """Return the MCP servers that the settings name; the bundled one, over stdio, where they name none.

    Raises:
        McpConfigError: a setting names no usable server.
    """
    if not settings.use_mcp_tools:
        return {}
    connections = (
        load_connections(settings.mcp_config, verify_ssl=settings.mcp_verify_ssl) if settings.mcp_config else {}
    )
    if settings.mcp_base_url:
        connections["mcp"] = http_connection(settings.mcp_base_url, verify_ssl=settings.mcp_verify_ssl)
    return connections or {"bundled": bundled_connection()}
