"""Which tools of the servers a model is offered, and how."""

import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.tools import ToolException

from tests.support.agent_server import agent_server
from tests.support.loopback import served
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import auntil
from tests.tools.mcp.raw_http import RawHttp
from tests.tools.mcp.raw_server import lines, tool
from tests.tools.mcp.toolboxes import RAW, call, found, names, opened, opened_with, raw, run
from tools.mcp.config import http_server
from tools.mcp.spec import ServerSpec, ToolFilter

DONE = {"content": [{"type": "text", "text": "done"}]}
CALLED: dict[str, Any] = {"tools/call": {"result": DONE}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file in which raw servers note what they receive."""
    return tmp_path / "received"


def offering(log: Path, *tools: object) -> ServerSpec:
    return raw(log, tools_list={"result": {"tools": tools}}, **CALLED)


async def test_m8_a_tool_has_a_name_for_the_model_and_one_for_its_server(log: Path) -> None:
    own = ["weather.get", "a/b", "my tool", "날씨", "x" * 70, "검색", "plain"]
    server = offering(log, *(tool(name, description=f"Does {name}.") for name in own))
    async with opened(one=server) as toolbox:
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names(toolbox))
        assert len(set(names(toolbox))) == len(own)
        for name in names(toolbox):
            message = await found(toolbox, name).ainvoke({"type": "tool_call", "id": "1", "name": name, "args": {}})
            assert message.name == name
        assert [item.description for item in toolbox][3::3] == ["날씨: Does 날씨.", "Does plain."]
    assert [message["params"]["name"] for message in lines(log) if message.get("method") == "tools/call"] == own


async def test_m8_a_name_stays_the_same_when_the_other_server_goes_down(log: Path) -> None:
    with served(RawHttp(tool("echo")).app) as url:
        stack = AsyncExitStack()
        servers = {"one": offering(log, tool("echo")), "other": http_server(f"{url}/mcp", verify_ssl=True)}
        toolbox = await stack.enter_async_context(opened_with(servers))
        assert names(toolbox) == ["one_echo", "other_echo"]
    async with stack:
        with pytest.raises(ToolException, match="'other'"):
            await run(found(toolbox, "other_echo"))
        await auntil(lambda: toolbox.health()["other"].state == "down")
        assert names(toolbox) == ["one_echo"]
        assert await call(toolbox, "one_echo") == "done"


async def test_m10_a_tool_that_no_model_can_be_told_of_is_left_out_and_named(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dangling = {"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}}
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": {"a": deep}}
    tools = [
        tool("good"),
        {"name": "dangling", "inputSchema": dangling},
        {"name": "no_schema"},
        {"name": "nothing", "inputSchema": False},
        {"inputSchema": {}},
        5,
        {"name": "later", "execution": {"taskSupport": "required"}, "inputSchema": {"type": "object"}},
        {"name": "deep", "inputSchema": deep},
        {"name": "maybe", "execution": {"taskSupport": "optional"}, "inputSchema": {"type": "object"}},
    ]
    async with opened(one=offering(log, *tools)) as toolbox:
        assert names(toolbox) == ["good", "no_schema", "maybe"]
        health = toolbox.health()["one"]
        assert await call(toolbox, "good") == "done"
    assert (health.state, health.tools) == ("ready", 3)
    for name in ("dangling", "nothing", "later", "deep"):
        assert name in str(health.error)
        assert sum(f"{name!r} is left out" in record.getMessage() for record in caplog.records) == 1


async def test_m25_a_tool_that_only_runs_as_a_task_is_left_out(log: Path) -> None:
    task = tool("later", execution={"taskSupport": "required"})
    async with opened(one=offering(log, task, tool("now", execution={"taskSupport": "forbidden"}))) as toolbox:
        assert names(toolbox) == ["now"]
        assert toolbox.health()["one"].error == (
            "the tool 'later' is left out: it can only be run as a task, which is not supported here"
        )


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"description": "Does it.", "title": "It"}, "Does it."),
        ({"title": "It"}, "It"),
        ({"annotations": {"title": "It", "readOnlyHint": True}}, "It"),
        ({"description": None}, ""),
        ({}, ""),
    ],
    ids=str,
)
async def test_a_tool_says_what_it_does_as_far_as_its_server_does(
    log: Path, described: dict[str, Any], words: str
) -> None:
    async with opened(one=offering(log, tool("it", **described))) as toolbox:
        assert toolbox[0].description == words


async def test_a_tools_hints_are_its_metadata(log: Path) -> None:
    hints = {"readOnlyHint": True, "destructiveHint": False}
    async with opened(one=offering(log, tool("it", annotations=hints, _meta={"x": 1}))) as toolbox:
        assert toolbox[0].metadata == {**hints, "_meta": {"x": 1}}


async def test_m15_tools_are_chosen_by_globs_on_the_servers_own_names(log: Path) -> None:
    tools = [tool(name) for name in ("read.file", "read.dir", "write.file")]
    chosen = ToolFilter(allowed=["read.*", "write_*"], disabled=["*_dir"])
    server = ServerSpec(address=offering(log, *tools).address, tools=chosen)
    async with opened(one=server) as toolbox:
        assert names(toolbox) == ["read_file", "write_file"]
        assert toolbox.health()["one"].error is None


async def test_m15_more_tools_than_models_take_are_bounded_and_named(
    log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = offering(log, *(tool(f"tool_{n}") for n in range(100)))
    others = offering(log, *(tool(f"other_{n}") for n in range(40)))
    async with opened(first=many, second=others) as toolbox:
        await auntil(lambda: len(toolbox) == 128)
        assert names(toolbox)[-1] == "other_27"
        health = toolbox.health()
        assert await call(toolbox, "other_0") == "done"
    assert [(server.state, server.tools) for server in health.values()] == [("ready", 100), ("ready", 28)]
    assert "other_28, other_29" in str(health["second"].error)
    assert health["first"].error is None
    warned = [record.getMessage() for record in caplog.records if "no more than 128" in record.getMessage()]
    assert len(warned) == 1
    assert "other_39 of 'second'" in warned[0]


def test_m8_a_model_calls_a_tool_by_the_name_that_it_was_told(
    tmp_path: Path, log: Path, upstream: Upstream, upstream_url: str
) -> None:
    schema = {"type": "object", "properties": {"도시": {"$ref": "#/$defs/C"}}, "$defs": {"C": {"type": "string"}}}
    table = {"tools/list": {"result": {"tools": [{"name": "날씨", "inputSchema": schema}]}}, **CALLED}
    entry = {"command": sys.executable, "args": [str(RAW), json.dumps(table), str(log)]}
    bad = {"command": "${UNSET_FOR_TEST}"}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"bad": bad, "one": entry}}))
    with agent_server(ollama_base_url=upstream_url, mcp_config=config) as server:
        server.ask("hello")
        [offered] = upstream.requests[-1]["tools"]
        name = offered["function"]["name"]
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
        assert offered["function"]["parameters"] == {"type": "object", "properties": {"도시": {"type": "string"}}}
        upstream.script(Answer(calls=[Call(name, '{"도시": "서울"}')]), Answer(["5 °C"]))
        assert server.ask("weather?") == "5 °C"
        ready = httpx.get(f"{server.url}/ready").json()
    assert lines(log)[-1]["params"]["arguments"] == {"도시": "서울"}
    assert upstream.requests[-1]["messages"][-1]["content"] == "done"
    assert (ready["status"], ready["mcp"]["one"]["state"], ready["mcp"]["bad"]["state"]) == (
        "degraded",
        "ready",
        "down",
    )
    assert "UNSET_FOR_TEST" in ready["mcp"]["bad"]["error"]
