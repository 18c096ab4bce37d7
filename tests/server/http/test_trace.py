"""Those whom the agent asks are told for which request."""

import json
import re
import socket
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.loopback import served
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until
from tests.tools.mcp.raw_http import Json, RawHttp, answer
from tests.tools.mcp.raw_server import tool
from tools.trace import carry_on, trace_headers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FORM = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
ASKING: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}


@pytest.mark.parametrize("given", [f"00-{TRACE}-{SPAN}-00", "", "nonsense", f"00-{'0' * 32}-{SPAN}-01"])
def test_the_model_and_the_tools_are_told_the_request(
    upstream: Upstream, upstream_url: str, tmp_path: Path, given: str
) -> None:
    told: list[tuple[str | None, str | None]] = []

    async def call(message: Json, request: Request) -> Response:
        told.append((message["params"].get("_meta", {}).get("traceparent"), request.headers.get("traceparent")))
        return answer(message, {"content": [{"type": "text", "text": "done"}]})

    raw = RawHttp(tool("look"), call=call)
    with served(raw.app) as url:
        config = tmp_path / "mcp.json"
        config.write_text(json.dumps({"mcpServers": {"one": {"url": f"{url}/mcp"}}}))
        with agent_server(ollama_base_url=upstream_url, mcp_config=config) as server:
            server.ask("hello")  # by now it knows the tools
            name = upstream.last["tools"][0]["function"]["name"]
            upstream.traces.clear()
            upstream.script(Answer(calls=[Call(name, "{}")]), Answer(["done"]))
            answered = server.post(ASKING, headers={"traceparent": given} if given else {})
    (of_first, of_second), ((in_call, in_header),) = upstream.traces, told
    assert of_first == of_second == in_call == in_header
    assert of_first is not None
    if given.endswith("00"):
        assert of_first == given, "nobody collects spans of ours, which these would be part of"
    else:
        trace_id = answered.headers["x-request-id"].removeprefix("req_")
        assert re.fullmatch(rf"00-{trace_id}-[0-9a-f]{{16}}-01", of_first)


def test_requests_over_one_connection_are_traces_of_their_own(server: AgentServer, upstream: Upstream) -> None:
    address = httpx.URL(server.url)
    body = json.dumps(ASKING).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    one = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
    with socket.create_connection((address.host, address.port or 0)) as client:
        client.sendall(one * 3)
        until(lambda: len(upstream.traces) == 3)
    assert len({trace[3:35] for trace in upstream.traces if trace}) == 3


@given(st.text() | st.from_regex(FORM, fullmatch=True))
def test_whatever_is_given_a_trace_is_one(text: str) -> None:
    def told() -> str:
        carry_on({"traceparent": text}, TRACE)
        return trace_headers()["traceparent"]

    assert FORM.fullmatch(copy_context().run(told))
