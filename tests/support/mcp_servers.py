"""An MCP server to test the client with, as a process: `python -m tests.support.mcp_servers PORT|stdio CALLS`.

Every call is noted in the file CALLS as a line with the tool's name, so that the calls outlive the process.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.fastmcp import Context, FastMCP
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import AnyUrl

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
BIG = f"HEAD{'x' * 200_000}TAIL"


class Calls:
    """The file of calls."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, tool: str) -> int:
        """Note a call and return how many there have been, in all processes."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(f"{tool}\n")
        return noted(self._path, tool)

    async def hang_the_first_time(self, tool: str) -> str:
        """Note a call; answer any but the first."""
        number = self.note(tool)
        if number == 1:
            await asyncio.Event().wait()
        return f"call {number}"


def build_server(port: int, path: Path) -> FastMCP:
    server = FastMCP("test", host="127.0.0.1", port=port, log_level="CRITICAL")
    calls = Calls(path)
    add_plain_tools(server, calls)
    add_destructive_tools(server, calls)
    add_hanging_tools(server, calls)
    add_odd_tools(server)
    return server


def add_plain_tools(server: FastMCP, calls: Calls) -> None:
    @server.tool()
    def echo(text: str) -> str:
        """Return the text."""
        calls.note("echo")
        return text

    @server.tool()
    def pid() -> int:
        """Return the number of the server's process."""
        return os.getpid()


def add_destructive_tools(server: FastMCP, calls: Calls) -> None:
    @server.tool(annotations=ToolAnnotations(destructiveHint=True))
    def wipe(path: str) -> str:
        """Wipe a folder."""
        return f"wiped {path}, call {calls.note('wipe')}"

    @server.tool(annotations=ToolAnnotations(destructiveHint=True))
    async def wipe_slowly() -> str:
        """Wipe everything; the first call takes for ever."""
        return await calls.hang_the_first_time("wipe_slowly")


def add_hanging_tools(server: FastMCP, calls: Calls) -> None:
    @server.tool()
    async def hang() -> str:
        """Never answer."""
        calls.note("hang")
        await asyncio.Event().wait()
        return "unreachable"

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True))
    async def read() -> str:
        """Read something; the first call takes for ever."""
        return await calls.hang_the_first_time("read")

    @server.tool(annotations=ToolAnnotations(readOnlyHint=False, idempotentHint=True))
    async def put() -> str:
        """Put something in its place; the first call takes for ever."""
        return await calls.hang_the_first_time("put")

    @server.tool()
    async def order() -> str:
        """Order something; the first call takes for ever."""
        return await calls.hang_the_first_time("order")


def add_odd_tools(server: FastMCP) -> None:
    @server.tool()
    def fail() -> str:
        """Raise an exception."""
        raise OSError("the disk is full")

    @server.tool()
    def refuse() -> CallToolResult:
        """Return an error in the tool's own words."""
        return CallToolResult(content=[TextContent(type="text", text="Not on Sundays.")], isError=True)

    @server.tool()
    def big() -> str:
        """Return 200 kB of text."""
        return BIG

    @server.tool()
    def content(kind: str) -> CallToolResult:
        """Return content that is not text."""
        uri = AnyUrl("file:///notes.txt")
        blocks: dict[str, list[ContentBlock]] = {
            "image": [ImageContent(type="image", data=PIXEL, mimeType="image/png")],
            "audio": [AudioContent(type="audio", data=PIXEL, mimeType="audio/wav")],
            "blob": [
                EmbeddedResource(
                    type="resource",
                    resource=BlobResourceContents(uri=uri, blob=PIXEL, mimeType="application/pdf"),
                )
            ],
            "resource": [EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, text="the notes"))],
            "link": [ResourceLink(type="resource_link", uri=uri, name="notes")],
            "two texts": [TextContent(type="text", text="one"), TextContent(type="text", text="two")],
            "nothing": [],
        }
        return CallToolResult(content=blocks[kind])

    @server.tool()
    async def grow(context: Context) -> str:  # type: ignore[type-arg]
        """Offer one more tool from now on, and say so to the client."""
        server.add_tool(lambda: "grown", name="grown", description="A tool that came later.")
        await context.session.send_tool_list_changed()
        return "done"


def noted(calls: Path, tool: str) -> int:
    """How many calls of this tool the servers have noted."""
    return calls.read_text(encoding="utf-8").splitlines().count(tool) if calls.exists() else 0


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        build_server(0, Path(sys.argv[2])).run("stdio")
    else:
        build_server(int(sys.argv[1]), Path(sys.argv[2])).run("streamable-http")
