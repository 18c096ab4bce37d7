"""Toolboxes under test, and what a test does with their tools."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from tests.support.waiting import auntil
from tools.mcp.spec import ServerSpec, StdioAddress
from tools.mcp.toolbox import Toolbox

RAW = Path(__file__).with_name("raw_server.py")


def command(program: str, *arguments: str) -> ServerSpec:
    return ServerSpec(address=StdioAddress(command=program, args=arguments))


def raw(log: Path, **table: Any) -> ServerSpec:
    """A server that does what the table says, and notes in the log what it receives: see raw_server.py."""
    named = {name.replace("call_", "tools/call ").replace("tools_", "tools/"): does for name, does in table.items()}
    return command(sys.executable, str(RAW), json.dumps(named), str(log))


def opened(
    *, call_timeout: float = 60, start_timeout: float = 60, **servers: ServerSpec
) -> AbstractAsyncContextManager[Toolbox]:
    """A toolbox that has heard from all its servers."""
    return opened_with(servers, call_timeout=call_timeout, start_timeout=start_timeout)


@asynccontextmanager
async def opened_with(
    servers: Mapping[str, ServerSpec], *, call_timeout: float = 60, start_timeout: float = 60
) -> AsyncIterator[Toolbox]:
    stack = AsyncExitStack()
    box = Toolbox(servers, call_timeout=call_timeout, start_timeout=start_timeout)
    toolbox = await stack.enter_async_context(box)
    try:
        await auntil(lambda: all(server.state != "starting" for server in toolbox.health().values()))
        yield toolbox
    finally:
        await asyncio.wait_for(stack.aclose(), 20)


def names(toolbox: Toolbox) -> list[str]:
    return [tool.name for tool in toolbox]


def found(toolbox: Toolbox, name: str) -> BaseTool:
    return next(tool for tool in toolbox if tool.name == name)


async def run(tool: BaseTool, **arguments: object) -> ToolMessage:
    """Run a tool as the agent does."""
    call = {"type": "tool_call", "id": "call-1", "name": tool.name, "args": arguments}
    message = await asyncio.wait_for(tool.ainvoke(call), 30)
    assert isinstance(message, ToolMessage)
    return message


async def call(toolbox: Toolbox, name: str, **arguments: object) -> str:
    """Run a tool that succeeds, and return its text."""
    message = await run(found(toolbox, name), **arguments)
    assert message.status == "success", message.text
    return str(message.text)
