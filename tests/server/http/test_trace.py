"""Those whom the agent asks are told for which request."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from tests.support.agent_server import HELLO, MODEL, agent_server
from tests.support.loopback import served
from tests.support.upstream import Answer, Call, Upstream
from tests.tools.mcp.raw_http import Json, RawHttp, answer
from tests.tools.mcp.raw_server import tool
from tools.trace import FORM, continued

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
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
    trace_id, flags = (TRACE, "00") if given.endswith("00") else (answered.headers["x-request-id"][4:], "01")
    assert re.fullmatch(rf"00-{trace_id}-[0-9a-f]{{16}}-{flags}", of_first)
    assert SPAN not in of_first, "it is a part of ours"


@given(st.text() | st.from_regex(FORM, fullmatch=True))
def test_whatever_is_given_a_trace_is_one(text: str) -> None:
    assert FORM.fullmatch(continued(text, TRACE))
