"""How toolboxes and calls end: whatever happens at that moment, and whatever the servers do."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from tests.support.waiting import auntil
from tests.tools.mcp.raw_server import GREETING, lines, tool
from tests.tools.mcp.toolboxes import call, command, opened, raw
from tools.mcp.server import McpServer
from tools.mcp.spec import StdioAddress
from tools.mcp.toolbox import Toolbox
from tools.tasks import end_tasks

TOOLS = {"result": {"tools": [tool("work")]}}
CHANGED = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
ANSWER = '{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file in which raw servers note what they receive."""
    return tmp_path / "received"


@pytest.mark.parametrize("said", [f"{ANSWER}\n{CHANGED}", f"{CHANGED}\n{ANSWER}"], ids=["after", "before"])
async def test_closing_ends_though_the_tools_change_at_that_moment(log: Path, said: str) -> None:
    server = raw(log, tools_list=TOOLS, call_work={"raw": said})
    for steps in range(10):
        async with opened(changing=server) as toolbox:
            await call(toolbox, "work")
            for _ in range(steps):
                await asyncio.sleep(0)
            began = time.monotonic()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("steps", range(6))
async def test_a_call_that_is_cancelled_as_its_server_becomes_ready_is_cancelled(log: Path, steps: int) -> None:
    def cancel_later(left: int = steps) -> None:
        if left:
            asyncio.get_running_loop().call_soon(cancel_later, left - 1)
        else:
            calling.cancel()

    spec = raw(log, tools_list=TOOLS)
    assert isinstance(spec.address, StdioAddress)
    server = McpServer("x", spec.address, spec, call_timeout=3, start_timeout=20, on_change=cancel_later)
    owner = asyncio.create_task(server.own())
    calling = asyncio.create_task(server.call_tool("work", {}))
    try:
        with pytest.raises(asyncio.CancelledError):
            await calling
    finally:
        await end_tasks({owner})
    assert steps or "tools/call" not in [message["method"] for message in lines(log)]


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await end_tasks({task})
    assert task.done()


STUBBORN = f"""
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        answer = {{"result": {GREETING!r}}} if sys.argv[2] == "ready" else {{"error": {{"code": 1, "message": "no"}}}}
        print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], **answer}}), flush=True)
    elif message.get("method") == "tools/list":
        print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": {{"tools": []}}}}), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["ready", "refusing"])
async def test_nothing_of_a_server_that_ignores_its_end_is_left_when_the_toolbox_is_closed(
    tmp_path: Path, state: str
) -> None:
    noted, before = tmp_path / "pid", len(os.listdir("/proc/self/fd"))
    others = asyncio.all_tasks()
    async with Toolbox({"stubborn": command(sys.executable, "-c", STUBBORN, str(noted), state)}) as toolbox:
        await auntil(lambda: noted.exists() and noted.read_text() != "")
        if state == "ready":
            await auntil(lambda: toolbox.health()["stubborn"].state == "ready")
        else:
            await asyncio.sleep(0.7)  # it is being stopped after its refusal, which takes seconds
        process = int(noted.read_text())
    assert not Path(f"/proc/{process}").exists()
    assert asyncio.all_tasks() == others
    await auntil(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)
