"""MCP servers as a live list of tools: real server processes that come, go, hang, are killed and come again."""

import asyncio
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.support.loopback import free_port, proxied, served
from tests.support.mcp_servers import BIG, noted
from tests.support.processes import PythonProcess
from tests.support.waiting import auntil
from tests.tools.mcp.toolboxes import call, command, found, names, opened, opened_with, run
from tools.mcp.config import http_server
from tools.mcp.results import MAX_TEXT
from tools.mcp.spec import HttpAddress, ServerSpec
from tools.mcp.toolbox import Toolbox

NAMES = [
    "echo",
    "pid",
    "wipe",
    "wipe_slowly",
    "hang",
    "read",
    "put",
    "order",
    "fail",
    "refuse",
    "big",
    "content",
    "grow",
]


@dataclass
class HttpServer:
    """The test's server over streamable HTTP: how to reach it, its process, and the calls it noted."""

    calls: Path
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.spec = http_server(f"http://127.0.0.1:{self.port}/mcp", verify_ssl=True)
        self.process = PythonProcess(["-m", "tests.support.mcp_servers", str(self.port), str(self.calls)], self.port)

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)

    async def restart(self) -> None:
        self.process.kill()
        await self.start()


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """The file in which the servers note their calls."""
    return tmp_path / "calls"


@pytest.fixture
def http(calls: Path) -> Iterator[HttpServer]:
    server = HttpServer(calls)
    try:
        server.process.start()
        yield server
    finally:
        server.process.kill()


@pytest.fixture
def stdio(calls: Path) -> ServerSpec:
    return command(sys.executable, "-m", "tests.support.mcp_servers", "stdio", str(calls))


@pytest.fixture(params=["http", "stdio"])
def spec(request: pytest.FixtureRequest) -> ServerSpec:
    """The same server over either transport."""
    if request.param == "stdio":
        stdio: ServerSpec = request.getfixturevalue("stdio")
        return stdio
    http: HttpServer = request.getfixturevalue("http")
    return http.spec


async def test_a_servers_tools_are_offered_under_their_own_names(spec: ServerSpec) -> None:
    async with opened(test=spec) as toolbox:
        assert names(toolbox) == NAMES
        assert (len(toolbox), toolbox[0].name, [tool.name for tool in toolbox[-2:]]) == (
            len(NAMES),
            "echo",
            ["content", "grow"],
        )
        assert found(toolbox, "echo").description == "Return the text."
        assert await call(toolbox, "echo", text="안녕") == "안녕"
        [health] = toolbox.health().values()
        assert (health.state, health.tools, health.error) == ("ready", len(NAMES), None)


async def test_no_servers_are_an_empty_toolbox_that_is_settled() -> None:
    async with opened() as toolbox:
        assert names(toolbox) == []
        assert toolbox.health() == {}


async def test_a_name_that_two_servers_use_gets_the_servers_name_before_it(http: HttpServer, stdio: ServerSpec) -> None:
    async with opened(one=http.spec, other=stdio) as toolbox:
        assert names(toolbox) == [f"{server}_{name}" for server in ("one", "other") for name in NAMES]
        await call(toolbox, "one_grow")
        await auntil(lambda: "grown" in names(toolbox))
        assert await call(toolbox, "one_pid") != await call(toolbox, "other_pid")
        assert await call(toolbox, "other_echo", text="here") == "here"


async def test_a_name_made_from_a_servers_name_is_one_that_models_accept(stdio: ServerSpec) -> None:
    servers = {"날씨 서버.v2": stdio, "x" * 100: stdio}
    async with opened_with(servers) as toolbox:
        assert len(toolbox) == 2 * len(NAMES)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names(toolbox))


async def test_names_made_from_servers_names_stay_different(stdio: ServerSpec) -> None:
    async with opened_with({"날씨": stdio, "검색": stdio, "x" * 100: stdio}) as toolbox:
        assert len(set(names(toolbox))) == 3 * len(NAMES)


def refusing() -> ServerSpec:
    return http_server(f"http://127.0.0.1:{free_port()}", verify_ssl=True)


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param(refusing(), id="nobody listens"),
        pytest.param(command("no-such-command"), id="no such command"),
        pytest.param(command(sys.executable, "-c", "pass"), id="a command that ends"),
    ],
)
async def test_a_server_that_is_not_there_does_not_keep_the_others_from_being_there(
    dead: ServerSpec, stdio: ServerSpec
) -> None:
    async with opened(dead=dead, alive=stdio) as toolbox:
        assert names(toolbox) == NAMES
        assert await call(toolbox, "echo", text="still here") == "still here"
        health = toolbox.health()
    assert health["alive"].state == "ready"
    assert (health["dead"].state, health["dead"].tools) == ("down", 0)
    assert health["dead"].error
    assert "\n" not in health["dead"].error
    assert "sub-exception" not in health["dead"].error


async def test_a_web_server_that_is_no_mcp_server_is_down(open_meteo_url: str) -> None:
    async with opened(web=http_server(open_meteo_url, verify_ssl=True)) as toolbox:
        health = toolbox.health()["web"]
    assert (health.state, len(toolbox)) == ("down", 0)
    assert health.error
    assert "\n" not in health.error


async def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied(monkeypatch)
    async with opened(test=http.spec) as toolbox:
        assert await call(toolbox, "echo", text="directly") == "directly"


async def test_an_outage_is_one_line_in_the_log_however_long_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    requests = 0

    async def refuse(_: Request) -> Response:
        nonlocal requests
        requests += 1
        return PlainTextResponse("out of order", status_code=503)

    with served(Starlette(routes=[Route("/mcp", refuse, methods=["POST"])])) as url, caplog.at_level(logging.INFO):
        async with opened(broken=http_server(f"{url}/mcp", verify_ssl=True)):
            await auntil(lambda: requests >= 4)
    lines = [record for record in caplog.records if record.name == "tools.mcp.server"]
    assert [record.levelname for record in lines] == ["WARNING"]
    assert "'broken' cannot be reached" in lines[0].getMessage()
    assert lines[0].exc_info is None


@pytest.mark.parametrize(
    ("query", "user", "headers", "error"),
    [
        ("?apiKey=CANARY", "", {}, "answered with status 401"),
        ("", "user:CANARY@", {}, "answered with status 401"),
        ("", "", {"Authorization": "Bearer CANARY\n"}, "its headers cannot be sent"),
    ],
)
async def test_an_outage_is_told_without_secrets(
    caplog: pytest.LogCaptureFixture, query: str, user: str, headers: dict[str, str], error: str
) -> None:
    async def refuse(_: Request) -> Response:
        return PlainTextResponse("Who are you?", status_code=401)

    with served(Starlette(routes=[Route("/mcp", refuse, methods=["POST"])])) as url:
        address = f"{url.replace('//', f'//{user}')}/mcp{query}"
        async with opened(locked=ServerSpec(address=HttpAddress(url=address, headers=headers))) as toolbox:
            assert toolbox.health()["locked"].error == error
    assert "'locked' cannot be reached" in caplog.text
    assert "CANARY" not in caplog.text


async def test_an_address_in_a_servers_own_words_is_told_without_secrets() -> None:
    async def complain(request: Request) -> Response:
        said = "Go to https://user:CANARY@example.org:1/key?token=CANARY#CANARY, then come back."
        error = {"code": -32000, "message": said}
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json())["id"], "error": error})

    with served(Starlette(routes=[Route("/mcp", complain, methods=["POST"])])) as url:
        async with opened(moved=http_server(f"{url}/mcp", verify_ssl=True)) as toolbox:
            assert toolbox.health()["moved"].error == "Go to https://example.org:1/key then come back."


async def test_a_call_to_a_server_that_is_down_says_so(http: HttpServer) -> None:
    async with opened(test=http.spec) as toolbox:
        echo = found(toolbox, "echo")
        http.process.kill()
        with pytest.raises(ToolException, match="'test'"):
            await run(echo, text="lost")
        await auntil(lambda: toolbox.health()["test"].state == "down")
        with pytest.raises(ToolException, match=r"^The tool server 'test' is not reachable right now\.$"):
            await run(echo, text="lost")
        assert names(toolbox) == []


async def test_tools_come_back_with_their_server(http: HttpServer) -> None:
    async with opened(test=http.spec) as toolbox:
        http.process.kill()
        with pytest.raises(ToolException):
            await call(toolbox, "echo", text="lost")
        await auntil(lambda: len(toolbox) == 0)
        assert toolbox.health()["test"].state == "down"
        await http.start()
        started = time.monotonic()
        await auntil(lambda: names(toolbox) == NAMES)
        assert time.monotonic() - started < 4
        assert await call(toolbox, "echo", text="back") == "back"
        assert toolbox.health()["test"].error is None


async def test_a_server_that_starts_later_than_the_agent_is_found(calls: Path) -> None:
    late = HttpServer(calls)
    async with opened(late=late.spec) as toolbox:
        assert toolbox.health()["late"].state == "down"
        try:
            await late.start()
            await auntil(lambda: names(toolbox) == NAMES)
            assert await call(toolbox, "echo", text="here") == "here"
        finally:
            late.process.kill()


async def test_a_restart_between_two_calls_is_not_noticed_by_the_second(http: HttpServer) -> None:
    async with opened(test=http.spec) as toolbox:
        before = await call(toolbox, "pid")
        await http.restart()
        assert await call(toolbox, "pid") != before
        assert await call(toolbox, "echo", text="and on") == "and on"


async def test_a_restart_is_not_noticed_by_any_of_many_calls_and_each_is_made_once(
    http: HttpServer, calls: Path
) -> None:
    async with opened(test=http.spec) as toolbox:
        await http.restart()
        texts = [str(number) for number in range(20)]
        assert await asyncio.gather(*(call(toolbox, "echo", text=text) for text in texts)) == texts
    assert noted(calls, "echo") == 20


async def test_a_restart_costs_one_new_session(http: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tools.mcp.server"):
        async with opened(test=http.spec) as toolbox:
            await http.restart()
            await asyncio.gather(*(run(found(toolbox, "echo"), text="x") for _ in range(20)), return_exceptions=True)
            await auntil(lambda: names(toolbox) == NAMES)
            for _ in range(5):
                assert await call(toolbox, "echo", text="x") == "x"
    ready = f"MCP server 'test' is ready with {len(NAMES)} tools."
    assert [record.getMessage() for record in caplog.records].count(ready) == 2


async def test_a_server_over_stdio_that_was_killed_between_two_calls_is_started_again(stdio: ServerSpec) -> None:
    async with opened(test=stdio) as toolbox:
        before = int(await call(toolbox, "pid"))
        os.kill(before, signal.SIGKILL)
        await auntil(lambda: has_ended(before))
        pid, health = found(toolbox, "pid"), toolbox.health
        try:
            after = int((await run(pid)).text)
        except ToolException:  # at the very moment of the loss, a call that may have been carried out is not repeated
            await auntil(lambda: health()["test"].state == "ready" and names(toolbox) == NAMES)
            after = int(await call(toolbox, "pid"))
        assert after != before
        assert health()["test"].state == "ready"


async def test_a_call_whose_server_is_killed_fails_soon_and_the_server_is_back_for_the_next(
    http: HttpServer, calls: Path
) -> None:
    async with opened(test=http.spec) as toolbox:
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        started = time.monotonic()
        http.process.kill()
        with pytest.raises(ToolException, match="'test'"):
            await waiting
        assert time.monotonic() - started < 10
        await http.start()
        await auntil(lambda: names(toolbox) == NAMES)
        assert await call(toolbox, "echo", text="back") == "back"
    assert noted(calls, "hang") == 1


async def test_a_call_whose_stdio_server_is_killed_fails_soon_and_the_server_is_back_for_the_next(
    stdio: ServerSpec, calls: Path
) -> None:
    async with opened(test=stdio) as toolbox:
        pid = int(await call(toolbox, "pid"))
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ToolException, match="'test'"):
            await waiting
        await auntil(lambda: names(toolbox) == NAMES and toolbox.health()["test"].state == "ready")
        assert await call(toolbox, "echo", text="back") == "back"
        assert time.monotonic() - started < 10
    assert noted(calls, "hang") == 1


async def test_m4_a_server_that_hangs_costs_a_call_its_own_time_and_is_not_given_up(
    http: HttpServer, calls: Path
) -> None:
    async with opened(test=http.spec, call_timeout=1.5) as toolbox:
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        http.process.halt()
        with pytest.raises(ToolException, match=r"^The tool did not answer within 1.5 seconds\.$"):
            await waiting
        assert toolbox.health()["test"].state == "ready"
        http.process.go_on()
        assert await call(toolbox, "echo", text="back") == "back"


@pytest.mark.parametrize("name", ["read", "put"])
async def test_a_call_that_changes_nothing_is_repeated_when_its_session_is_lost(
    http: HttpServer, calls: Path, name: str
) -> None:
    async with opened(test=http.spec) as toolbox:
        waiting = asyncio.create_task(call(toolbox, name))
        await auntil(lambda: noted(calls, name))
        await http.restart()
        assert await waiting == "call 2"
    assert noted(calls, name) == 2


async def test_a_call_that_may_change_something_is_not_repeated_when_its_session_is_lost(
    http: HttpServer, calls: Path
) -> None:
    async with opened(test=http.spec) as toolbox:
        waiting = asyncio.create_task(call(toolbox, "order"))
        await auntil(lambda: noted(calls, "order"))
        await http.restart()
        with pytest.raises(ToolException, match=r"^The connection to the tool server 'test' was lost\.$"):
            await waiting
        await auntil(lambda: names(toolbox) == NAMES)
        assert await call(toolbox, "echo", text="later") == "later"
    assert noted(calls, "order") == 1


async def test_a_tool_that_a_server_adds_is_offered_and_can_be_called(spec: ServerSpec) -> None:
    async with opened(test=spec) as toolbox:
        await call(toolbox, "grow")
        await auntil(lambda: "grown" in names(toolbox))
        assert await call(toolbox, "grown") == "grown"
        assert toolbox.health()["test"].tools == len(toolbox) == len(NAMES) + 1


async def test_a_big_result_is_cut_in_the_middle(spec: ServerSpec) -> None:
    async with opened(test=spec) as toolbox:
        text = await call(toolbox, "big")
    assert text.startswith("HEADxxx")
    assert text.endswith("xxxTAIL")
    assert MAX_TEXT <= len(text) < MAX_TEXT + 100
    left_out = re.search(r"\n\[… (\d+) characters left out …\]\n", text)
    assert left_out
    assert int(left_out[1]) == len(BIG) - MAX_TEXT


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("audio", "[audio content, which cannot be shown as text]"),
        ("blob", "[resource file:///notes.txt (application/pdf), which cannot be shown as text]"),
        ("resource", "the notes"),
        ("link", "notes: file:///notes.txt"),
        ("two texts", "one\ntwo"),
        ("nothing", ""),
    ],
)
async def test_content_of_every_kind_becomes_text(stdio: ServerSpec, kind: str, text: str) -> None:
    async with opened(test=stdio) as toolbox:
        assert await call(toolbox, "content", kind=kind) == text


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("fail", {}, "the disk is full"),
        ("refuse", {}, "Not on Sundays."),
        ("echo", {}, "Field required"),
        ("content", {"kind": "unheard of"}, "unheard of"),
    ],
)
async def test_an_error_of_a_tool_reaches_the_model_as_one(
    stdio: ServerSpec, name: str, arguments: dict[str, str], words: str
) -> None:
    async with opened(test=stdio) as toolbox:
        with pytest.raises(ToolException) as error:
            await run(found(toolbox, name), **arguments)
        assert words in str(error.value)
        assert "Traceback" not in str(error.value)
        assert await call(toolbox, "echo", text="no harm done") == "no harm done"


async def test_a_cancelled_call_leaves_the_server_usable(spec: ServerSpec, calls: Path) -> None:
    async with opened(test=spec) as toolbox:
        before = await call(toolbox, "pid")
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await call(toolbox, "echo", text="next") == "next"
        assert await call(toolbox, "pid") == before
        assert toolbox.health()["test"].state == "ready"


async def test_many_calls_at_the_same_time_each_get_their_own_answer(spec: ServerSpec, calls: Path) -> None:
    async with opened(test=spec) as toolbox:
        texts = [str(number) for number in range(20)]
        assert await asyncio.gather(*(call(toolbox, "echo", text=text) for text in texts)) == texts
    assert noted(calls, "echo") == 20


async def test_a_call_is_answered_while_another_one_waits(spec: ServerSpec, calls: Path) -> None:
    async with opened(test=spec) as toolbox:
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        assert await call(toolbox, "echo", text="meanwhile") == "meanwhile"
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_closing_ends_the_servers_over_stdio(stdio: ServerSpec) -> None:
    async with opened(one=stdio, other=stdio) as toolbox:
        processes = [int(await call(toolbox, f"{server}_pid")) for server in ("one", "other")]
        assert not any(has_ended(process) for process in processes)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert all(has_ended(process) for process in processes)


async def test_closing_does_not_wait_for_calls(spec: ServerSpec, calls: Path) -> None:
    async with opened(test=spec) as toolbox:
        waiting = asyncio.create_task(run(found(toolbox, "hang")))
        await auntil(lambda: noted(calls, "hang"))
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with pytest.raises(ToolException, match="'test'"):
        await waiting


async def test_closing_at_the_moment_of_a_loss_takes_no_time(http: HttpServer) -> None:
    async with opened(test=http.spec) as toolbox:
        echo = found(toolbox, "echo")
        await http.restart()
        waiting = [asyncio.create_task(run(echo, text="x")) for _ in range(20)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
    assert all(isinstance(outcome, ToolMessage | ToolException) for outcome in outcomes)


async def test_closing_in_the_middle_of_connecting_takes_no_time() -> None:
    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writers.append(writer)

    accepted, writers = asyncio.Event(), list[asyncio.StreamWriter]()
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        async with Toolbox({"silent": http_server(url, verify_ssl=True)}) as toolbox:
            await asyncio.wait_for(accepted.wait(), 20)
            assert toolbox.health()["silent"].state == "starting"
            started = time.monotonic()
        assert time.monotonic() - started < 5
        for writer in writers:
            writer.close()


async def test_closing_does_not_wait_for_a_server_that_hangs(http: HttpServer) -> None:
    async with opened(test=http.spec):
        http.process.halt()
        started = time.monotonic()
    assert time.monotonic() - started < 5


async def test_the_servers_of_one_toolbox_are_not_those_of_another(http: HttpServer) -> None:
    async with opened(test=http.spec) as one:
        async with opened(test=http.spec) as other:
            assert await call(other, "echo", text="a") == "a"
        assert await call(one, "echo", text="b") == "b"


def has_ended(process: int) -> bool:
    """Whether a child of this process has ended; one that was not waited for yet has, too."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
