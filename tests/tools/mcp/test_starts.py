"""How servers start, what is asked of them then, and what is said of those that do not."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from mcp.server.fastmcp import FastMCP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from tests.support.agent_server import agent_server
from tests.support.loopback import served
from tests.support.waiting import auntil
from tests.tools.mcp.raw_http import Json, RawHttp, answer
from tests.tools.mcp.raw_server import GREETING, lines, tool
from tests.tools.mcp.toolboxes import RAW, call, command, found, names, opened, raw, run
from tools.mcp.config import http_server
from tools.mcp.health import ServerHealth
from tools.mcp.spec import HttpAddress, ServerSpec, StdioAddress
from tools.mcp.stdio import last_words
from tools.mcp.toolbox import Toolbox

DONE = {"content": [{"type": "text", "text": "done"}]}
TOOLS: Json = {"result": {"tools": [tool("work")]}}
UNKNOWN: Json = {"error": {"code": -32601, "message": "Method not found"}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file in which raw servers note what they receive."""
    return tmp_path / "received"


def slow(log: Path, seconds: float) -> ServerSpec:
    greeting = {"sleep": seconds, "result": GREETING}
    return raw(log, initialize=greeting, tools_list=TOOLS, call_work={"result": DONE})


async def test_m3_a_server_that_takes_its_time_is_starting_and_then_there(log: Path) -> None:
    async with Toolbox({"cold": slow(log, 6)}) as toolbox:
        begun = time.monotonic()
        await toolbox.settled()
        assert 2.5 < time.monotonic() - begun < 5.5
        assert toolbox.health() == {"cold": ServerHealth(state="starting")}
        assert names(toolbox) == []
        begun = time.monotonic()
        await toolbox.settled()
        assert time.monotonic() - begun < 1
        await auntil(lambda: names(toolbox) == ["work"])
        assert await call(toolbox, "work") == "done"
    assert [message["method"] for message in lines(log)].count("initialize") == 1


async def test_m3_a_server_that_is_soon_there_is_waited_for(log: Path) -> None:
    async with Toolbox({"warm": slow(log, 0.5)}) as toolbox:
        await toolbox.settled()
        assert names(toolbox) == ["work"]


async def test_m3_a_server_that_does_not_start_in_its_time_is_down(log: Path) -> None:
    async with opened(cold=slow(log, 30), start_timeout=0.5) as toolbox:
        assert toolbox.health()["cold"] == ServerHealth(state="down", error="no answer within 0.5 s")


def test_m3_the_first_request_does_not_wait_and_ready_says_that_a_server_is_starting(
    tmp_path: Path, log: Path, upstream_url: str
) -> None:
    config = tmp_path / "mcp.json"
    table = json.dumps({"initialize": {"sleep": 30}})
    entry = {"command": sys.executable, "args": [str(RAW), table, str(log)]}
    config.write_text(json.dumps({"mcpServers": {"cold": entry}}))
    with agent_server(ollama_base_url=upstream_url, mcp_config=config) as server:
        begun = time.monotonic()
        assert server.ask("hello") == "You said: hello"
        assert time.monotonic() - begun < 15
        servers = httpx.get(f"{server.url}/ready").json()["mcp"]
    assert servers == {"cold": {"state": "starting", "tools": 0, "error": None}}


@pytest.mark.parametrize("ping", [UNKNOWN, {}], ids=["an error", "silence"])
async def test_m4_what_a_server_does_about_pings_does_not_matter(log: Path, ping: Json) -> None:
    server = raw(log, tools_list=TOOLS, ping=ping, call_work={"sleep": 3, "result": DONE})
    async with opened(one=server) as toolbox:
        assert await call(toolbox, "work") == "done"
        assert toolbox.health()["one"].state == "ready"


@pytest.mark.parametrize(
    ("listed", "capabilities"),
    [
        pytest.param(UNKNOWN, {"resources": {}}, id="an error, as it said"),
        pytest.param(UNKNOWN, {"tools": {}}, id="an error, though it said that it has tools"),
        pytest.param({"error": {"code": -32603, "message": "x"}}, {"resources": {}}, id="another error"),
        pytest.param({"result": {"tools": []}}, {"tools": {}}, id="an empty list"),
        pytest.param({"result": {}}, {"tools": {}}, id="no list"),
        pytest.param({}, {"resources": {}}, id="silence"),
    ],
)
async def test_m5_a_server_without_tools_is_left_running(log: Path, listed: Json, capabilities: Json) -> None:
    server = raw(log, initialize={"result": {**GREETING, "capabilities": capabilities}}, tools_list=listed)
    async with opened(one=server) as toolbox:
        assert toolbox.health() == {"one": ServerHealth(state="ready")}
        await asyncio.sleep(1)  # in which it would be started again
    assert [message["method"] for message in lines(log)].count("initialize") == 1


async def test_m5_a_server_that_crashes_is_started_less_and_less_often_and_told_of_once(
    log: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server = raw(log, initialize={"exit": 3, "words": "npm ERR! 404 'no-such-server' is not in this registry."})
    with caplog.at_level(logging.INFO):
        async with opened(broken=server) as toolbox:
            await asyncio.sleep(6)
            health = toolbox.health()["broken"]
    assert health.error == "its process ended with status 3: npm ERR! 404 'no-such-server' is not in this registry."
    assert [record.levelname for record in caplog.records if record.name.startswith("tools.")] == ["WARNING"]
    # Every 1.5 s at the most would be four times, and every 50 ms a hundred.
    assert 2 <= len(lines(log)) <= 9
    assert "npm ERR! 404" in capfd.readouterr().err


async def test_m5_a_list_that_goes_in_circles_ends(log: Path) -> None:
    page = {"result": {"tools": [tool("work")], "nextCursor": "again"}}
    async with opened(one=raw(log, tools_list=page)) as toolbox:
        assert names(toolbox) == ["work"]
    assert [message["method"] for message in lines(log)].count("tools/list") == 2


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (command("no-such-command"), "no such command or folder: no-such-command"),
        (command(sys.executable, "-c", "raise SystemExit('No key.')"), "its process ended with status 1: No key."),
        (command(sys.executable, "-c", ""), "its process ended with status 0"),
        (
            ServerSpec(address=StdioAddress(command=sys.executable, cwd=Path("nowhere"))),
            "no such command or folder: nowhere",
        ),
        (
            ServerSpec(
                address=StdioAddress(
                    command=sys.executable,
                    args=["-c", "import os; raise SystemExit('bad key ' + os.environ['KEY'])"],
                    env={"KEY": "CANARY-1234"},
                )
            ),
            "its process ended with status 1: bad key …",
        ),
    ],
    ids=["no command", "last words", "no words", "no folder", "a secret"],
)
async def test_m5_a_command_that_does_not_start_says_why(spec: ServerSpec, error: str) -> None:
    async with opened(one=spec) as toolbox:
        assert toolbox.health()["one"] == ServerHealth(state="down", error=error)


NPM = """npm error code E404
npm error 404 Not Found - GET https://example.org/no-such-server - Not found
npm error 404
npm error 404  'no-such-server@*' is not in this registry.
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log"""


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ("", ""),
        ("Traceback (most recent call last):\n  File x\nValueError: no key", "ValueError: no key"),
        ("sh: 1: foo: not found", "sh: 1: foo: not found"),
        (NPM, "npm error 404 Not Found - GET https://example.org/no-such-server - Not found"),
        ("npm error short", "npm error short"),
    ],
)
def test_m5_the_line_that_says_why_a_process_ended_is_found(errors: str, words: str) -> None:
    assert last_words(errors.splitlines()) == words


async def test_m16_servers_of_the_older_transport_are_found_and_called() -> None:
    server = FastMCP("old", log_level="CRITICAL")

    @server.tool()
    def echo(text: str) -> str:
        return text

    @server.tool()
    async def hang() -> None:
        await asyncio.Event().wait()

    with served(server.sse_app()) as url:
        named = ServerSpec(address=HttpAddress(url=f"{url}/sse", transport="sse"))
        async with opened(named=named, guessed=http_server(f"{url}/sse", verify_ssl=True), call_timeout=5) as toolbox:
            assert [health.state for health in toolbox.health().values()] == ["ready", "ready"]
            for name in ("named_echo", "guessed_echo"):
                assert await call(toolbox, name, text="안녕\u2028") == "안녕\u2028"
            waiting = asyncio.create_task(run(found(toolbox, "named_hang")))
            assert await call(toolbox, "named_echo", text="meanwhile") == "meanwhile"
            waiting.cancel()
            await asyncio.wait([waiting])


@pytest.mark.parametrize(
    ("served_at", "asked_at"),
    [("/", ""), ("/", "/"), ("/mcp", ""), ("/mcp", "/"), ("/mcp", "/mcp"), ("/v1/x", "/v1/x"), ("/mcp/", "/mcp/")],
)
async def test_m17_a_server_is_asked_where_the_address_says_and_then_at_mcp(served_at: str, asked_at: str) -> None:
    with served((server := RawHttp(tool("work"), path=served_at)).app) as url:
        async with opened(one=http_server(f"{url}{asked_at}", verify_ssl=True)) as toolbox:
            assert names(toolbox) == ["work"]
    assert server.sessions == 1


async def test_m17_a_slash_that_a_server_wants_is_followed() -> None:
    inner = RawHttp(tool("work"), path="/")
    app = Starlette(routes=[Mount("/mcp", app=inner.app)])  # which redirects /mcp to /mcp/ with 307
    with served(app) as url:
        async with opened(one=http_server(f"{url}/mcp", verify_ssl=True)) as toolbox:
            assert names(toolbox) == ["work"]


async def web_page(_: Request) -> Response:
    return HTMLResponse("<html>Welcome</html>")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/wrong", "404 at URL/wrong: no MCP server there"),
        ("/wrong?key=CANARY", "404 at URL/wrong: no MCP server there"),
        ("", "405 at URL: no MCP server there"),
        ("/page", "405 at URL/page: no MCP server there"),
        ("/posted", "URL/posted answered with status 200 and text/html: no MCP server there"),
        ("/locked", "answered with status 401"),
        ("/broken", "answered with status 500: the database is gone"),
        ("/away", "Redirect to https://example.org/mcp not followed"),
    ],
)
async def test_m18_an_address_without_an_mcp_server_is_told_with_its_status(path: str, error: str) -> None:
    async def locked(_: Request) -> Response:
        return PlainTextResponse("Who are you?", 401)

    async def broken(request: Request) -> Response:
        said = {"code": -32603, "message": "the database is gone"}
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json())["id"], "error": said}, 500)

    async def away(_: Request) -> Response:
        return Response(status_code=307, headers={"location": "https://example.org/mcp?key=CANARY"})

    routes = [
        *(Route(at, web_page, methods=["GET"]) for at in ("/", "/page")),
        Route("/posted", web_page, methods=["POST"]),
        Route("/locked", locked, methods=["POST"]),
        Route("/broken", broken, methods=["POST"]),
        Route("/away", away, methods=["POST"]),
    ]
    with served(Starlette(routes=routes)) as url:
        address = f"{url.replace('//', '//user:CANARY@')}{path}"
        async with opened(wrong=http_server(address, verify_ssl=True)) as toolbox:
            health = toolbox.health()["wrong"]
    assert health.error
    assert health.error.replace(url, "URL").startswith(error)
    assert "CANARY" not in health.error


async def test_m24_servers_are_told_our_name_and_version(log: Path) -> None:
    async with opened(one=raw(log, tools_list=TOOLS)):
        pass
    assert lines(log)[0]["params"]["clientInfo"] == {"name": "chat-agent", "version": version("chat-agent")}


async def test_m14_a_notification_that_an_http_server_does_not_take_does_not_end_the_session() -> None:
    async def odd(_: Json, __: Request) -> Response:
        return Response(status_code=400)

    async def work(message: Json, _: Request) -> Response:
        return answer(message, DONE)

    with served((server := RawHttp(tool("work"), initialized=odd, cancelled=odd, call=work)).app) as url:
        async with opened(odd=http_server(f"{url}/mcp", verify_ssl=True)) as toolbox:
            assert await call(toolbox, "work") == "done"
    assert server.sessions == 1


async def test_a_server_whose_tools_always_change_is_not_asked_without_end(log: Path) -> None:
    changed = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    listed = json.dumps({"jsonrpc": "2.0", "id": "ID", **TOOLS}).replace('"ID"', "ID")
    restless = raw(log, tools_list={"raw": f"{changed}\n{listed}\n{changed}"}, call_work={"result": DONE})
    async with opened(restless=restless) as toolbox:
        await asyncio.sleep(3)
        assert await call(toolbox, "work") == "done"
        asked = [message["method"] for message in lines(log)].count("tools/list")
    assert 2 <= asked <= 6


async def never_ending(_: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b": nothing\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")


async def cut_short(_: Request) -> Response:
    return PlainTextResponse("event: endpoint\ndata: https://example.org/elsewhere\n\n", media_type="text/event-stream")


@pytest.mark.parametrize("elsewhere", [never_ending, cut_short], ids=["for ever", "an endpoint of another host"])
async def test_m16_the_first_reason_is_told_whatever_the_older_transport_comes_to(
    elsewhere: Callable[[Request], Awaitable[Response]],
) -> None:
    async def refuse(_: Json, __: Request) -> Response:
        return JSONResponse({"error": {"code": -32600, "message": "missing key"}}, 400)

    server = RawHttp(initialize=refuse)
    server.app.add_route("/mcp", elsewhere, methods=["GET"])
    with served(server.app) as url:
        begun = time.monotonic()
        async with opened(wrong=http_server(f"{url}/mcp", verify_ssl=True)) as toolbox:
            assert time.monotonic() - begun < 12
            assert toolbox.health()["wrong"].error == "answered with status 400: missing key"


async def test_m8_a_tool_keeps_its_name_when_a_slower_server_has_one_of_the_same(log: Path) -> None:
    async with Toolbox({"late": slow(log, 5), "soon": raw(log, tools_list=TOOLS)}) as toolbox:
        await toolbox.settled()
        assert names(toolbox) == ["work"]
        await auntil(lambda: len(toolbox) == 2)
        assert names(toolbox) == ["late_work", "work"]


@pytest.mark.nightly
async def test_a_list_of_tools_that_takes_too_long_is_cancelled_at_its_server(log: Path) -> None:
    greeting = {"result": {**GREETING, "capabilities": {"resources": {}}}}
    async with opened(one=raw(log, initialize=greeting)):
        await auntil(lambda: "notifications/cancelled" in [message.get("method") for message in lines(log)])


@pytest.mark.nightly
async def test_closing_does_not_wait_for_a_server_that_takes_its_time_over_the_farewell() -> None:
    server = RawHttp(tool("work"))
    server.app.add_route("/mcp", never_ending, methods=["DELETE"])
    with served(server.app) as url:
        async with opened(slow=http_server(f"{url}/mcp", verify_ssl=True)) as toolbox:
            assert names(toolbox) == ["work"]
            begun = time.monotonic()
        assert time.monotonic() - begun < 6
