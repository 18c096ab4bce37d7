"""The bundled MCP server as a process of its own, over stdio and streamable HTTP, for any MCP client."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.sessions import StdioConnection
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Implementation, TextContent, Tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server import __version__
from tests.support.loopback import free_port, served
from tests.support.open_meteo import OpenMeteo
from tests.support.processes import running

TRANSPORTS = ("stdio", "chat-agent mcp --stdio", "chat-agent mcp")
STDIO_COMMANDS = (["-m", "tools.bundled.server"], ["-m", "server", "mcp", "--stdio"])

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@asynccontextmanager
async def session_at(port: str) -> AsyncIterator["Client"]:
    async with (
        streamable_http_client(f"http://127.0.0.1:{port}/mcp") as (read, write, _),
        Client(read, write) as session,
    ):
        session.told = (await session.initialize()).serverInfo
        yield session


class Client(ClientSession):
    """A session that remembers who the server said it is."""

    told: Implementation


@asynccontextmanager
async def connected(transport: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> AsyncIterator[ClientSession]:
    """A session of the MCP SDK's own client with the bundled server, which got these settings."""
    if transport == "chat-agent mcp":
        port = free_port()
        for name, value in {**settings, "MCP_PORT": str(port)}.items():
            monkeypatch.setenv(name, value)
        with running(["-m", "server", "mcp"], port):
            async with session_at(str(port)) as session:
                yield session
    else:
        arguments = STDIO_COMMANDS[TRANSPORTS.index(transport)]
        parameters = StdioServerParameters(command=sys.executable, args=list(arguments), env=settings)
        async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session


def weather_at(url: str) -> Mapping[str, str]:
    return {"OPEN_METEO_GEOCODING_URL": url, "OPEN_METEO_FORECAST_URL": url}


def only_text(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def parameters(tool: Tool) -> dict[str, Any]:
    """A tool's parameters without the words about them."""
    return {
        name: {key: value for key, value in schema.items() if key not in ("title", "description")}
        for name, schema in tool.inputSchema["properties"].items()
    }


class Engine:
    """A SearXNG that finds twenty results for everything."""

    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/search", self._search)])

    async def _search(self, request: Request) -> Response:
        results = [{"title": f"T{n}", "url": f"https://example.org/{n}", "content": "c"} for n in range(1, 21)]
        return JSONResponse({"query": request.query_params["q"], "results": results})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_two_tools_are_offered_in_words_for_a_model(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(transport, monkeypatch) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"get_weather", "search_web"}
    weather, search = tools["get_weather"], tools["search_web"]
    assert re.fullmatch(r".*weather.*\.", weather.description or "")
    assert re.fullmatch(r".*[Ss]earch.*\.", search.description or "")
    assert parameters(weather) == {"city": {"type": "string"}}
    assert parameters(search) == {"query": {"type": "string"}, "limit": {"type": "integer", "default": 5}}
    assert (weather.inputSchema["required"], search.inputSchema["required"]) == (["city"], ["query"])
    assert "1 to 10" in search.inputSchema["properties"]["limit"]["description"]
    for tool in tools.values():
        assert all(len(schema["description"]) > 10 for schema in tool.inputSchema["properties"].values())
        assert tool.annotations is not None
        assert (tool.annotations.readOnlyHint, tool.annotations.openWorldHint) == (True, True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_get_weather_answers_with_the_report_as_one_text(
    transport: str, open_meteo: OpenMeteo, open_meteo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(transport, monkeypatch, **weather_at(open_meteo_url)) as session:
        result = await session.call_tool("get_weather", {"city": "서울"})
    assert not result.isError
    assert only_text(result).startswith("서울특별시, 대한민국, 현재(2026-11-22 20:15 현지 시각): 약한 비, 기온 5.3 °C")
    assert [query["name"] for query in open_meteo.searches] == ["서울"]


async def test_a_failure_is_an_error_of_one_short_sentence(
    open_meteo: OpenMeteo, open_meteo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**weather_at(open_meteo_url), "SEARXNG_URL": f"http://127.0.0.1:{free_port()}"}
    async with connected("stdio", monkeypatch, **settings) as session:
        unknown = await session.call_tool("get_weather", {"city": "Atlantis"})
        open_meteo.status = 500
        down = await session.call_tool("get_weather", {"city": "Seoul"})
        no_search = await session.call_tool("search_web", {"query": "news"})
        open_meteo.status = 200
        again = await session.call_tool("get_weather", {"city": "Seoul"})
    assert unknown.isError
    assert only_text(unknown) == "No city called 'Atlantis' was found. Try its English name."
    assert down.isError
    assert only_text(down) == "The weather service does not answer right now."
    assert no_search.isError
    assert only_text(no_search) == "The web search does not answer right now."
    assert not again.isError


@pytest.mark.parametrize(("limit", "count"), [(99, 10), (3, 3), (0, 1), (-5, 1), (None, 5)])
async def test_a_limit_out_of_range_is_brought_into_it(
    limit: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(Engine().app) as url:
        async with connected("stdio", monkeypatch, SEARXNG_URL=url) as session:
            result = await session.call_tool(
                "search_web", {"query": "news"} | ({} if limit is None else {"limit": limit})
            )
    assert not result.isError
    assert [entry.partition("\n")[0] for entry in only_text(result).split("\n\n")] == [
        f"{n}. T{n}" for n in range(1, count + 1)
    ]


async def test_several_clients_are_served_at_the_same_time(
    open_meteo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected("chat-agent mcp", monkeypatch, **weather_at(open_meteo_url)) as one:
        async with session_at(os.environ["MCP_PORT"]) as other:
            answers = [await session.call_tool("get_weather", {"city": "Seoul"}) for session in (one, other, one)]
    assert [only_text(answer)[:5] for answer in answers] == ["Seoul"] * 3


@pytest.mark.parametrize("command", STDIO_COMMANDS)
def test_m24_the_server_says_our_name_and_version(command: Sequence[str]) -> None:
    with running(command) as process:
        information = json.loads(process.send(json.dumps(INITIALIZE)))["result"]["serverInfo"]
    assert information == {"name": "chat-agent", "version": __version__}


async def test_m24_the_http_server_says_our_name_and_version_and_logs_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    nobody = f"http://127.0.0.1:{free_port()}"
    for name, value in {"MCP_PORT": str(port), **weather_at(nobody)}.items():
        monkeypatch.setenv(name, value)
    with running(["-m", "server", "mcp"], port) as process:
        async with session_at(str(port)) as session:
            assert session.told == Implementation(name="chat-agent", version=__version__)
            assert (await session.call_tool("get_weather", {"city": "Seoul"})).isError
            assert (await session.call_tool("get_weather", {})).isError
        _, errors = await asyncio.to_thread(process.end, signal.SIGINT)
    assert errors
    for line in errors.splitlines():
        assert re.fullmatch(r"(WARNING|ERROR): +[a-z].*", line), line


def test_ctrl_c_ends_the_http_server_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MCP_PORT", str(port))
    with running(["-m", "server", "mcp"], port) as process:
        status, errors = process.end(signal.SIGINT)
    assert (status, errors) == (130, "")


async def test_ctrl_c_ends_the_http_server_while_a_client_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MCP_PORT", str(port))
    with running(["-m", "server", "mcp"], port) as process:
        async with session_at(str(port)) as session:
            await session.list_tools()
            status, errors = await asyncio.to_thread(process.end, signal.SIGINT)
    assert status == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", STDIO_COMMANDS)
def test_ctrl_c_ends_the_stdio_server_without_a_traceback(command: Sequence[str]) -> None:
    with running(command) as process:
        assert json.loads(process.send(json.dumps(INITIALIZE)))["result"]["serverInfo"]["name"] == "chat-agent"
        status, errors = process.end(signal.SIGINT)
    assert status in (130, -signal.SIGINT)
    assert errors == ""


@pytest.mark.parametrize("command", STDIO_COMMANDS)
def test_the_stdio_server_ends_with_its_input(command: Sequence[str]) -> None:
    with running(command) as process:
        assert json.loads(process.send(json.dumps(INITIALIZE)))["result"]["serverInfo"]["name"] == "chat-agent"
        assert process.close() == (0, "")


async def test_langchain_s_own_client_has_its_tools(open_meteo_url: str) -> None:
    environment = {"OPEN_METEO_GEOCODING_URL": open_meteo_url, "OPEN_METEO_FORECAST_URL": open_meteo_url}
    bundled: StdioConnection = {
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-m", "tools.bundled.server"],
        "env": environment,
    }
    client = MultiServerMCPClient({"chat-agent": bundled})
    tools = {tool.name: tool for tool in await client.get_tools()}
    assert set(tools) == {"get_weather", "search_web"}
    assert "5.3 °C" in str(await tools["get_weather"].ainvoke({"city": "Seoul"}))


def test_where_others_reach_it_that_is_said_and_the_hosts_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    for name, value in {"MCP_PORT": str(port), "MCP_HOST": "0.0.0.0", "MCP_ALLOWED_HOSTS": "tools.example"}.items():
        monkeypatch.setenv(name, value)
    accepted = {"Accept": "application/json, text/event-stream"}
    with running(["-m", "server", "mcp"], port) as process:
        statuses = [
            httpx.post(f"http://127.0.0.1:{port}/mcp", json={}, headers={**accepted, "Host": host}).status_code
            for host in ("tools.example", f"tools.example:{port}", "evil.com", f"127.0.0.1:{port}")
        ]
        _, errors = process.end(signal.SIGINT)
    assert statuses == [400, 400, 421, 421], "a request that is none, but looked at"
    assert "WARNING: 0.0.0.0 can be reached from other machines" in errors
