"""Calls of tools: how long they may take, what they carry, how they end."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.tools import ToolException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.support.agent_server import HELLO, MODEL, agent_server, frames_of
from tests.support.loopback import served
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import auntil, until
from tests.tools.mcp.raw_http import Json, RawHttp, Reaction, answer, says
from tests.tools.mcp.raw_server import lines, tool
from tests.tools.mcp.toolboxes import RAW, call, found, names, opened, raw, run
from tools.mcp.config import http_server
from tools.mcp.progress import Progress, progress_listener
from tools.mcp.spec import ServerSpec

DONE = {"content": [{"type": "text", "text": "done"}]}
TEXT = '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"TEXT"}]}}'
TOOLS: Json = {"result": {"tools": [tool("work"), tool("echo")]}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file in which raw servers note what they receive."""
    return tmp_path / "received"


@contextmanager
def at(server: RawHttp) -> Iterator[ServerSpec]:
    """The server on a loopback port."""
    with served(server.app) as url:
        yield http_server(f"{url}/mcp", verify_ssl=True)


async def block(message: Json, _: Request) -> Response:
    """Answer after a while in which the whole server does nothing else, as Python's SDK has it for `def` tools."""
    seconds = message["params"]["arguments"].get("seconds", 0)
    time.sleep(seconds)  # noqa: ASYNC251 - the fault that is to be lived with
    return answer(message, DONE)


# Longer than any ping may take to be answered.
BLOCKED = 14


@pytest.mark.nightly
async def test_m1_a_tool_that_blocks_its_server_runs_to_its_end_and_so_does_its_neighbour(log: Path) -> None:
    blocking = raw(log, tools_list=TOOLS, call_work={"sleep": BLOCKED, "result": DONE}, call_echo={"result": DONE})
    with at(RawHttp(tool("work"), call=block)) as over_http:
        async with opened(stdio=blocking, http=over_http) as toolbox:
            begun = time.monotonic()
            answers = await asyncio.gather(
                call(toolbox, "stdio_work"), call(toolbox, "echo"), call(toolbox, "http_work", seconds=BLOCKED)
            )
            assert list(answers) == ["done"] * 3
            assert time.monotonic() - begun > BLOCKED
            assert [health.state for health in toolbox.health().values()] == ["ready", "ready"]
    assert [message["method"] for message in lines(log)].count("initialize") == 1
    assert "ping" not in [message["method"] for message in lines(log)]


async def test_m1_a_call_that_takes_too_long_is_not_repeated_though_it_only_reads(log: Path) -> None:
    read_only = {"result": {"tools": [tool("work", annotations={"readOnlyHint": True})]}}
    async with opened(call_timeout=0.5, silent=raw(log, tools_list=read_only)) as toolbox:
        with pytest.raises(ToolException, match=r"^The tool did not answer within 0.5 seconds\.$"):
            await run(found(toolbox, "work"))
        await auntil(lambda: "notifications/cancelled" in received(log))
        assert received(log).count("tools/call") == 1
        assert toolbox.health()["silent"].state == "ready"


def received(log: Path) -> list[str]:
    return [message.get("method", "") for message in lines(log)]


async def test_m2_progress_gives_a_call_its_time_again_and_is_told(log: Path) -> None:
    told: list[Progress] = []
    progress_listener.set(told.append)
    server = raw(log, tools_list=TOOLS, call_work={"progress": 6, "result": DONE})
    async with opened(call_timeout=1.0, slow=server) as toolbox:
        assert await call(toolbox, "work") == "done"
    assert told == [Progress(float(step), 9.0, f"step {step}") for step in range(1, 7)]


async def test_m2_each_caller_hears_of_its_own_progress(log: Path) -> None:
    async def listened(name: str) -> list[Progress]:
        told: list[Progress] = []
        progress_listener.set(told.append)
        await call(toolbox, name)
        return told

    server = raw(log, tools_list=TOOLS, call_work={"progress": 2, "result": DONE}, call_echo={"result": DONE})
    async with opened(slow=server) as toolbox:
        work, echo = await asyncio.gather(listened("work"), listened("echo"))
    assert (len(work), len(echo)) == (2, 0)


async def test_m2_a_server_may_have_a_time_of_its_own(log: Path) -> None:
    server = ServerSpec(address=raw(log, tools_list=TOOLS).address, call_timeout=0.3)
    async with opened(call_timeout=60, quick=server) as toolbox:
        with pytest.raises(ToolException, match=r"within 0\.3 seconds"):
            await run(found(toolbox, "work"))


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 500])
async def test_m6_an_old_session_is_replaced_and_the_call_made_once(status: int) -> None:
    async def only_the_second(message: Json, request: Request) -> Response:
        if request.headers["mcp-session-id"] == "1":
            error = {"code": -32000, "message": "Bad Request: No valid session ID provided"}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status)
        return answer(message, DONE)

    with at(server := RawHttp(tool("work"), call=only_the_second)) as spec:
        async with opened(restarted=spec) as toolbox:
            assert await asyncio.gather(*(call(toolbox, "work") for _ in range(5))) == ["done"] * 5
            assert await call(toolbox, "work") == "done"
    assert server.sessions == 2


async def test_m6_a_fault_that_a_ping_meets_too_is_of_an_old_session() -> None:
    async def fault_in_the_first(message: Json, request: Request) -> Response:
        if request.headers["mcp-session-id"] == "1":
            return Response("Internal Server Error", 500)
        return answer(message, DONE)

    with at(server := RawHttp(tool("work"), call=fault_in_the_first, ping=fault_in_the_first)) as spec:
        async with opened(restarted=spec) as toolbox:
            assert await call(toolbox, "work") == "done"
    assert server.sessions == 2


async def test_m6_the_calls_in_an_old_session_go_on_when_a_new_one_is_taken() -> None:
    held = asyncio.Event()

    async def hold_the_first(message: Json, request: Request) -> Response:
        if message["params"]["name"] == "work":
            while not held.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.01)
        elif request.headers["mcp-session-id"] == "1":
            return Response(status_code=404)
        return answer(message, DONE)

    with at(server := RawHttp(tool("work"), tool("echo"), call=hold_the_first)) as spec:
        async with opened(restarted=spec) as toolbox:
            working = asyncio.create_task(call(toolbox, "work"))
            await auntil(lambda: "tools/call" in server.methods())
            assert await call(toolbox, "echo") == "done"
            assert not working.done()
            held.set()
            assert await working == "done"


async def test_m6_a_server_that_never_takes_the_call_says_why_in_the_second_session() -> None:
    refusal = says('{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"No such city."}}', status=400)
    with at(server := RawHttp(tool("work"), call=refusal)) as spec:
        async with opened(strict=spec) as toolbox:
            with pytest.raises(ToolException, match=r"'strict' did not answer the call: .*400: No such city"):
                await run(found(toolbox, "work"))
    assert server.methods().count("tools/call") == 2


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504, 520, 524, 529])
async def test_m6_a_call_that_a_gateway_lost_may_have_been_taken_and_is_not_repeated(status: int) -> None:
    with at(server := RawHttp(tool("work"), call=says("Bad gateway", "text/plain", status))) as spec:
        async with opened(behind=spec) as toolbox:
            with pytest.raises(ToolException, match=f"status {status}"):
                await run(found(toolbox, "work"))
    assert server.methods().count("tools/call") == 1


@pytest.mark.parametrize(("hint", "made"), [("readOnlyHint", 2), ("idempotentHint", 2), ("openWorldHint", 1)])
async def test_m6_a_call_that_met_a_fault_is_repeated_only_if_that_adds_nothing(hint: str, made: int) -> None:
    work = tool("work", annotations={hint: True})
    with at(server := RawHttp(work, call=says("Internal Server Error", "text/plain", 500))) as spec:
        async with opened(faulty=spec) as toolbox:
            with pytest.raises(ToolException, match="status 500"):
                await run(found(toolbox, "work"))
    assert server.methods().count("tools/call") == made


async def test_m7_a_call_that_is_given_up_is_cancelled_at_a_stdio_server(log: Path) -> None:
    async with opened(silent=raw(log, tools_list=TOOLS, call_echo={"result": DONE})) as toolbox:
        calling = asyncio.create_task(run(found(toolbox, "work")))
        await auntil(lambda: "tools/call" in received(log))
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await auntil(lambda: "notifications/cancelled" in received(log))
        [asked] = [message["id"] for message in lines(log) if message.get("method") == "tools/call"]
        [given_up] = [message for message in lines(log) if message.get("method") == "notifications/cancelled"]
        assert given_up["params"]["requestId"] == asked
        assert await call(toolbox, "echo") == "done"


@pytest.mark.parametrize("end", ["the client leaves", "its time is over"])
def test_m7_a_tool_is_cancelled_when_its_run_ends(
    end: str, tmp_path: Path, log: Path, upstream: Upstream, upstream_url: str
) -> None:
    config = tmp_path / "mcp.json"
    entry = {"command": sys.executable, "args": [str(RAW), json.dumps({"tools/list": TOOLS}), str(log)]}
    config.write_text(json.dumps({"mcpServers": {"silent": entry}}))
    upstream.script(Answer(calls=[Call("work", "{}")]))
    seconds = 300 if end == "the client leaves" else 3
    with agent_server(ollama_base_url=upstream_url, mcp_config=config, run_timeout=seconds) as server:
        try:
            question = {"model": MODEL, "messages": [HELLO], "stream": True}
            httpx.post(f"{server.url}/v1/chat/completions", json=question, timeout=2 if seconds > 3 else 30)
        except httpx.ReadTimeout:
            pass
        until(lambda: "notifications/cancelled" in received(log), within=20)


def test_m2_progress_is_told_as_tool_activity(log: Path, upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    table = {"tools/list": TOOLS, "tools/call work": {"progress": 2, "result": DONE}}
    entry = {"command": sys.executable, "args": [str(RAW), json.dumps(table), str(log)]}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"slow": entry}}))
    upstream.script(Answer(calls=[Call("work", "{}")]), Answer(["Done."]))
    with agent_server(ollama_base_url=upstream_url, mcp_config=config) as server:
        chunks = frames_of(server, stream_options={"include_tool_events": True})
    events = [chunk["event"] for chunk in chunks if chunk != "[DONE]" and chunk["object"] == "agent.event"]
    assert [event["status"] for event in events] == ["started", "running", "running", "succeeded"]
    told = [(event["progress"], event["total"], event["message"]) for event in events[1:3]]
    assert told == [(1, 9, "step 1"), (2, 9, "step 2")]


@pytest.mark.parametrize("kind", ["json", "events"])
async def test_m7_a_call_that_is_given_up_is_cancelled_at_an_http_server_and_its_connection_let_go(kind: str) -> None:
    gone = asyncio.Event()

    async def events(request: Request) -> AsyncIterator[bytes]:
        try:
            yield b": nothing yet\n\n"
            await watch(request)
        finally:  # the response watches for itself
            gone.set()

    async def watch(request: Request) -> None:
        while not await request.is_disconnected():  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.01)
        gone.set()

    async def never(_: Json, request: Request) -> Response:
        if kind == "events":
            return StreamingResponse(events(request), media_type="text/event-stream")
        await watch(request)
        return Response()

    with at(server := RawHttp(tool("work"), call=never)) as spec:
        async with opened(silent=spec) as toolbox:
            calling = asyncio.create_task(run(found(toolbox, "work")))
            await auntil(lambda: "tools/call" in server.methods())
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await auntil(lambda: "notifications/cancelled" in server.methods())
            await auntil(gone.is_set)


ARGUMENTS = {
    name: f"the model's {name}"
    for name in (
        *("config", "runtime", "run_manager", "self", "callbacks", "tags", "metadata", "args", "kwargs", "input"),
        *(
            "name",
            "tool_input",
            "tool_call_id",
            "run_id",
            "state",
            "store",
            "type",
            "id",
            "arguments",
            "_",
            "cls",
            "날씨",
        ),
    )
}


@pytest.mark.parametrize(
    "arguments",
    [
        ARGUMENTS,
        {},
        {"null": None, "nested": {"null": None, "list": [None, 1.5, True]}, "empty": {}, "big": 2**60},
        {"config": {"configurable": {"thread_id": "x"}}, "type": "tool_call"},
    ],
    ids=["names", "none", "nulls", "objects"],
)
async def test_m11_arguments_reach_the_server_as_the_model_wrote_them(log: Path, arguments: dict[str, Any]) -> None:
    async with opened(one=raw(log, tools_list=TOOLS, call_work={"result": DONE})) as toolbox:
        message = await found(toolbox, "work").ainvoke(
            {"type": "tool_call", "id": "call-1", "name": "work", "args": arguments}
        )
    assert (message.content, message.tool_call_id, message.name) == ("done", "call-1", "work")
    [sent] = [message["params"] for message in lines(log) if message.get("method") == "tools/call"]
    assert (sent["name"], sent["arguments"]) == ("work", arguments)


async def test_m11_half_a_character_in_an_argument_is_one_that_can_be_sent(log: Path) -> None:
    async with opened(one=raw(log, tools_list=TOOLS, call_work={"result": DONE})) as toolbox:
        assert await call(toolbox, "work", city="서울\ud800") == "done"
    assert lines(log)[-1]["params"]["arguments"] == {"city": "서울�"}


class Heard(AsyncCallbackHandler):
    """What LangChain's callbacks are told of tools."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def on_tool_start(self, serialized: dict[str, Any], *_: Any, **__: Any) -> None:
        self.events.append(f"start {serialized['name']}")

    async def on_tool_end(self, output: Any, **_: Any) -> None:
        self.events.append(f"end {output.content}")

    async def on_tool_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(f"error {error}")


async def test_m11_langchains_callbacks_hear_of_every_call(log: Path) -> None:
    heard = Heard()
    failing = {"result": {"content": [{"type": "text", "text": "No."}], "isError": True}}
    async with opened(one=raw(log, tools_list=TOOLS, call_work={"result": DONE}, call_echo=failing)) as toolbox:
        calls: dict[str, Any] = {
            name: {"type": "tool_call", "id": "1", "name": name, "args": {}} for name in ("work", "echo")
        }
        await found(toolbox, "work").ainvoke(calls["work"], {"callbacks": [heard]})
        with pytest.raises(ToolException, match=r"^No\.$"):
            await found(toolbox, "echo").ainvoke(calls["echo"], {"callbacks": [heard]})
    assert heard.events == ["start work", "end done", "start echo", "error No."]


async def test_m12_a_result_is_shown_whatever_its_tool_says_of_its_form(log: Path) -> None:
    promise = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    table = {"result": {"tools": [tool("work", outputSchema=promise), tool("echo", outputSchema={"$ref": "#/x"})]}}
    broken = {"result": {**DONE, "structuredContent": {"n": "five"}}}
    async with opened(one=raw(log, tools_list=table, call_work=broken, call_echo={"result": DONE})) as toolbox:
        assert [await call(toolbox, name) for name in ("work", "echo")] == ["done", "done"]


HALF = TEXT.replace("TEXT", "a\\ud800b")


async def test_m14_half_a_character_in_a_result_is_shown_as_one_that_is_none(log: Path) -> None:
    events = says(f"event: message\ndata: {HALF}\n\n", "text/event-stream")
    with at(RawHttp(tool("json"), call=says(HALF))) as as_json, at(RawHttp(tool("events"), call=events)) as as_events:
        stdio = raw(log, tools_list=TOOLS, call_work={"raw": HALF})
        async with opened(one=stdio, two=as_json, three=as_events, call_timeout=5) as toolbox:
            for name in ("work", "json", "events"):
                assert await call(toolbox, name) == "a�b"


NO_ANSWERS: dict[str, tuple[Reaction, str]] = {
    "a web page": (says("<html>Welcome</html>", "text/html"), "text/html"),
    "an empty answer": (says("", "application/json"), "no answer to the call"),
    "an empty text": (says("", "text/plain"), "no answer to the call"),
    "accepted": (says("", "application/json", 202), "status 202"),
    "no content": (says("", "application/json", 204), "status 204"),
    "broken JSON": (says('{"jsonrpc":"2.0","id":ID,"result":{"content"'), "not valid JSON"),
    "somebody else's answer": (says('{"jsonrpc":"2.0","id":99999,"result":{}}'), "no answer to the call"),
    "an error for nobody": (says('{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"No."}}'), "No."),
    "no stream at all": (says("", "text/event-stream"), "was lost"),
    "a stream without an answer": (says(": hello\n\n", "text/event-stream"), "was lost"),
    "a stream that is cut": (says('data: {"jsonrpc":"2.0","id":ID,"res', "text/event-stream"), "was lost"),
    "a stream of something else": (says("data: hello\n\n", "text/event-stream"), "was lost"),
    "a result that is none": (says('{"jsonrpc":"2.0","id":ID,"result":null}'), "form"),
    "an error that is a text": (says('{"jsonrpc":"2.0","id":ID,"error":"Out of order."}'), "Out of order."),
}


@pytest.mark.parametrize(("reaction", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_m14_what_is_no_answer_is_a_failure_at_once(reaction: Reaction, words: str) -> None:
    async def one_tool(message: Json, request: Request) -> Response:
        works = message["params"]["name"] == "echo"
        return answer(message, DONE) if works else await reaction(message, request)

    with at(server := RawHttp(tool("work"), tool("echo"), call=one_tool)) as spec:
        async with opened(odd=spec) as toolbox:
            begun = time.monotonic()
            with pytest.raises(ToolException, match=words):
                await run(found(toolbox, "work"))
            assert time.monotonic() - begun < 10
            assert await call(toolbox, "echo") == "done"
    assert server.methods().count("tools/call") == 2


async def test_m14_a_cut_stream_that_can_go_on_does() -> None:
    async def cut(_: Json, __: Request) -> Response:
        return PlainTextResponse("id: 7\nretry: 50\ndata:\n\n", media_type="text/event-stream")

    resumed: list[str] = []

    async def resume(request: Request) -> Response:
        last = request.headers.get("last-event-id")
        if last is None:
            return Response(status_code=405)
        resumed.append(last)
        if len(resumed) == 1:
            return PlainTextResponse(": not yet\n\n", media_type="text/event-stream")
        asked = next(message["id"] for message in server.received if message.get("method") == "tools/call")
        return PlainTextResponse(f"data: {TEXT.replace('ID', str(asked))}\n\n", media_type="text/event-stream")

    server = RawHttp(tool("work"), call=cut)
    server.app.add_route("/mcp", resume, methods=["GET"])
    with at(server) as spec:
        async with opened(resumable=spec) as toolbox:
            assert await call(toolbox, "work") == "TEXT"
    assert resumed == ["7", "7"]


async def test_m14_a_cut_stream_that_cannot_go_on_is_a_failure() -> None:
    cut = says("id: 7\nretry: 50\ndata:\n\n", "text/event-stream")
    with at(RawHttp(tool("work"), call=cut)) as spec:
        async with opened(cut=spec) as toolbox:
            with pytest.raises(ToolException, match="was lost"):
                await run(found(toolbox, "work"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"jsonrpc":"2.0","id":ID,"result":{"content":', "not valid JSON"),
        ('{"jsonrpc":"2.0","id":ID,"result":null}', "form"),
        ('{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":""}}', "without saying why"),
    ],
    ids=["broken", "null", "no words"],
)
async def test_m14_a_broken_line_of_a_stdio_server_is_a_failure_at_once(log: Path, line: str, words: str) -> None:
    server = raw(log, tools_list=TOOLS, call_work={"raw": line}, call_echo={"result": DONE})
    async with opened(odd=server) as toolbox:
        with pytest.raises(ToolException, match=words):
            await run(found(toolbox, "work"))
        assert await call(toolbox, "echo") == "done"


async def test_m14_what_a_stdio_server_prints_beside_its_messages_does_no_harm(log: Path) -> None:
    noise = "Listening …\n" + TEXT.replace("TEXT", "done") + '\n{"level": "info"}'
    async with opened(noisy=raw(log, tools_list=TOOLS, call_work={"raw": noise})) as toolbox:
        assert [await call(toolbox, "work") for _ in range(2)] == ["done", "done"]


async def test_m1_a_process_that_ends_is_lost_at_once_though_a_helper_holds_its_output(
    log: Path,
) -> None:
    server = raw(log, tools_list=TOOLS, call_work={"fork": True, "exit": 3, "words": "out of memory"})
    async with opened(mortal=server) as toolbox:
        begun = time.monotonic()
        with pytest.raises(ToolException, match=r"^The connection to the tool server 'mortal' was lost\.$"):
            await run(found(toolbox, "work"))
        assert time.monotonic() - begun < 10
        await auntil(lambda: toolbox.health()["mortal"].state == "ready" and names(toolbox) == ["work", "echo"])
    assert received(log).count("tools/call") == 1


def nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth):
        value = {"a": value}
    return value


async def test_m14_an_answer_that_is_nested_too_deep_fails_alone() -> None:
    deep = {"content": [], "structuredContent": nested(300)}
    release = threading.Event()

    async def work(message: Json, _: Request) -> Response:
        if message["params"]["name"] == "echo":
            await asyncio.to_thread(release.wait, 20)
            return answer(message, DONE)
        if message["params"]["arguments"].get("events"):
            frame = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": deep})
            return PlainTextResponse(f"data: {frame}\n\n", media_type="text/event-stream")
        return answer(message, deep)

    with at(server := RawHttp(tool("work"), tool("echo"), call=work)) as spec:
        async with opened(deep=spec) as toolbox:
            neighbour = asyncio.create_task(call(toolbox, "echo"))
            for events in (False, True):
                with pytest.raises(ToolException, match="too deep"):
                    await run(found(toolbox, "work"), events=events)
            release.set()
            assert await neighbour == "done"
    assert server.sessions == 1


async def test_m11_arguments_that_are_nested_too_deep_fail_their_call_alone(log: Path) -> None:
    async def work(message: Json, _: Request) -> Response:
        return answer(message, DONE)

    stdio = raw(log, tools_list=TOOLS, call_work={"result": DONE})
    with at(RawHttp(tool("http"), call=work)) as over_http:
        async with opened(stdio=stdio, http=over_http) as toolbox:
            for name in ("work", "http"):
                with pytest.raises(ToolException, match="nested too deep"):
                    await run(found(toolbox, name), deep=nested(300))
                assert await call(toolbox, name) == "done"


async def test_m14_a_stream_that_is_given_up_is_not_asked_for_again() -> None:
    resumed = 0

    async def cut(_: Json, __: Request) -> Response:
        return PlainTextResponse("id: 7\nretry: 50\ndata:\n\n", media_type="text/event-stream")

    async def resume(request: Request) -> Response:
        nonlocal resumed
        if request.headers.get("last-event-id") is None:
            return Response(status_code=405)
        resumed += 1
        return PlainTextResponse("id: 7\nretry: 50\ndata:\n\n", media_type="text/event-stream")

    server = RawHttp(tool("work"), call=cut)
    server.app.add_route("/mcp", resume, methods=["GET"])
    with at(server) as spec:
        async with opened(endless=spec, call_timeout=1) as toolbox:
            with pytest.raises(ToolException, match="did not answer within 1 seconds"):
                await run(found(toolbox, "work"))
            await auntil(lambda: "notifications/cancelled" in server.methods())
            await asyncio.sleep(0.5)  # in which the last one may still be on its way
            asked = resumed
            await asyncio.sleep(1.5)  # in which it would be asked thirty times
            assert resumed == asked > 1


async def test_m14_an_open_stream_that_is_given_up_is_let_go_and_not_asked_for_again() -> None:
    open_streams, resumed = 0, 0

    async def events() -> AsyncIterator[bytes]:
        nonlocal open_streams
        open_streams += 1
        try:
            yield b"id: 7\nretry: 50\ndata:\n\n"
            await asyncio.sleep(60)
        finally:
            open_streams -= 1

    async def hang(_: Json, __: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    async def resume(request: Request) -> Response:
        nonlocal resumed
        if request.headers.get("last-event-id") is None:
            return Response(status_code=405)
        resumed += 1
        return StreamingResponse(events(), media_type="text/event-stream")

    server = RawHttp(tool("work"), call=hang)
    server.app.add_route("/mcp", resume, methods=["GET"])
    with at(server) as spec:
        async with opened(endless=spec, call_timeout=1) as toolbox:
            with pytest.raises(ToolException, match="did not answer within 1 seconds"):
                await run(found(toolbox, "work"))
            await auntil(lambda: open_streams == 0)
            await asyncio.sleep(1)  # in which it would be asked for again
            assert (open_streams, resumed) == (0, 0)
