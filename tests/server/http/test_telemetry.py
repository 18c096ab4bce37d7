"""What OpenTelemetry is told, by a collector that takes it."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.requests import Request
from starlette.responses import Response

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.collector import Collector, values
from tests.support.command import Serving, serving, without_tools
from tests.support.loopback import free_port, served
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until
from tests.tools.mcp.raw_http import Json, RawHttp, answer
from tests.tools.mcp.raw_server import tool

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
CANARY = "canary-7f3b"
ASKING: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": f"say {CANARY}"}]}
PATH = "/v1/chat/completions"


@contextmanager
def telling(collector: str, upstream_url: str, **settings: str) -> Iterator[tuple[Serving, AgentServer]]:
    """Serve the agent, and let it tell the collector; when this ends, it has."""
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving("serve", **{**without_tools(upstream_url), **told, **settings}) as running:
        yield running


def ids(span: Span) -> tuple[str, str]:
    return span.span_id.hex(), span.parent_span_id.hex()


@dataclass
class Traced:
    """A turn with a tool: who was asked, what they were told, and what the collector has of it."""

    server: AgentServer
    upstream: Upstream
    upstream_url: str
    collector: Collector
    request_id: str
    tool_was_told: list[str]

    @property
    def request(self) -> Span:
        return self.collector.named(f"POST {PATH}")

    @property
    def agent(self) -> Span:
        return self.collector.named("invoke_agent chat-agent")

    @property
    def tool(self) -> Span:
        return self.collector.named("execute_tool look")

    @property
    def calls(self) -> list[Span]:
        """Of the model."""
        return [span for span in self.collector.spans if span.name == f"chat {MODEL}"]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    told: list[str] = []

    async def call(message: Json, _: Request) -> Response:
        told.append(message["params"]["_meta"]["traceparent"])
        return answer(message, {"content": [{"type": "text", "text": f"result {CANARY}"}]})

    upstream, collector, raw = Upstream(), Collector(), RawHttp(tool("look"), call=call)
    folder = tmp_path_factory.mktemp("traced")
    config = folder / "mcp.json"
    key = {"Authorization": f"Bearer {CANARY}-key"}
    with (
        served(upstream.app) as model,
        served(raw.app) as mcp,
        served(collector.app) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        config.write_text(json.dumps({"mcpServers": {"one": {"url": f"{mcp}/mcp"}}}))
        patch.chdir(folder)  # with no `.env` in it
        with telling(
            url,
            f"{model}/v1",
            USE_MCP_TOOLS="true",
            MCP_CONFIG=str(config),
            CHECKPOINT_URL="memory://",
            API_KEYS=f"mina:{CANARY}-key",
            OLLAMA_API_KEY=f"{CANARY}-upstream",
            OTEL_EXPORTER_OTLP_HEADERS="x-team=blue",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        ) as (_, server):
            until(lambda: httpx.get(f"{server.url}/ready", headers=key).json()["status"] == "ready")
            upstream.traces.clear()
            asked = Call("look", json.dumps({"q": CANARY}))
            upstream.script(Answer([CANARY], calls=[asked]), Answer([f"done {CANARY}"]))
            headers = {**key, **GIVEN, "X-Session-ID": "mine"}
            answered = server.post({**ASKING, "stream": True}, headers=headers, params={"note": CANARY})
            assert answered.text.endswith("[DONE]\n\n")
        yield Traced(server, upstream, f"{model}/v1", collector, answered.headers["x-request-id"], told)


def test_a_turn_is_a_tree_of_spans(traced: Traced) -> None:
    first, second = traced.calls
    assert {span.trace_id.hex() for span in traced.collector.spans} == {TRACE}
    assert ids(traced.request)[1] == PARENT
    assert ids(traced.agent)[1] == ids(traced.request)[0]
    assert {ids(part)[1] for part in (first, second, traced.tool)} == {ids(traced.agent)[0]}
    assert [span.kind for span in (traced.request, traced.agent, first, traced.tool)] == [
        Span.SPAN_KIND_SERVER,
        Span.SPAN_KIND_INTERNAL,
        Span.SPAN_KIND_CLIENT,
        Span.SPAN_KIND_INTERNAL,
    ]
    assert all(span.status.code == Status.STATUS_CODE_UNSET for span in traced.collector.spans)


def test_the_model_and_the_tool_are_told_the_span_that_they_work_for(traced: Traced) -> None:
    assert traced.upstream.traces == [f"00-{TRACE}-{ids(span)[0]}-01" for span in traced.calls]
    assert traced.tool_was_told == [f"00-{TRACE}-{ids(traced.tool)[0]}-01"]


def test_a_request_s_span_says_what_was_asked(traced: Traced) -> None:
    own = httpx.URL(traced.server.url)
    assert values(traced.request.attributes) == {
        "http.request.method": "POST",
        "network.protocol.version": "1.1",
        "server.address": own.host,
        "server.port": own.port,
        "url.scheme": "http",
        "url.query": "REDACTED",
        "http.route": PATH,
        "url.path": PATH,
        "http.response.status_code": 200,
        "http.response.header.x-request-id": [traced.request_id],
        "gen_ai.conversation.id": "mine",
    }


def test_the_agent_s_the_model_s_and_the_tool_s_spans_have_the_conventions_names(traced: Traced) -> None:
    assert values(traced.agent.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "chat-agent",
        "gen_ai.conversation.id": "mine",
    }
    first, second = (values(span.attributes) for span in traced.calls)
    assert 0 < first.pop("gen_ai.response.time_to_first_chunk") < 10
    address = httpx.URL(traced.upstream_url)
    assert first == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "mine",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "server.address": address.host,
        "server.port": address.port,
    }
    assert second["gen_ai.response.finish_reasons"] == ["stop"]
    assert values(traced.tool.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": traced.upstream.last["messages"][-1]["tool_call_id"],
        "gen_ai.conversation.id": "mine",
        "mcp.method.name": "tools/call",
    }


def test_the_sdk_s_own_variables_count(traced: Traced) -> None:
    assert all(sent["x-team"] == "blue" for sent in traced.collector.headers)
    assert traced.collector.resources[0]["service.name"] == "chat-agent"
    assert traced.collector.resources[0]["deployment.environment.name"] == "test"


@pytest.mark.parametrize("metric", ["duration", "time_to_first_chunk"])
def test_the_calls_of_the_model_are_measured(traced: Traced, metric: str) -> None:
    histogram = traced.collector.metric(f"gen_ai.client.inference.{metric}")
    assert histogram.unit == "s"
    (point,) = histogram.histogram.data_points
    assert point.count == 2
    assert point.explicit_bounds[:2] == [0.01, 0.02]
    address = httpx.URL(traced.upstream_url)
    assert values(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "server.address": address.host,
        "server.port": address.port,
    }


def test_nothing_that_was_said_and_no_key_is_told(traced: Traced) -> None:
    assert traced.collector.bodies
    assert not any(CANARY.encode() in body for body in traced.collector.bodies), "no text, argument, result or key"


def test_what_fails_says_how(upstream: Upstream, upstream_url: str) -> None:
    collector = Collector()
    with served(collector.app) as url, telling(url, upstream_url) as (serving, server):
        upstream.script(*[Answer(status=429, error=f"slow down {CANARY}")] * 2)
        assert server.post(ASKING).status_code == 429
        upstream.script(Answer(status=500), Answer(status=500))
        assert server.post(ASKING).status_code == 502
        upstream.script(Answer(calls=[Call("nothing", "{}")]), Answer(["well"]))
        assert server.post(ASKING).status_code == 200
    failed = [span for span in collector.spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert sorted((span.name, values(span.attributes)["error.type"]) for span in failed) == [
        (f"POST {PATH}", "502"),
        (f"chat {MODEL}", "failed"),
        (f"chat {MODEL}", "rate_limited"),
        ("invoke_agent chat-agent", "failed"),
        ("invoke_agent chat-agent", "rate_limited"),
    ]
    points = collector.metric("gen_ai.client.inference.duration").histogram.data_points
    assert {values(point.attributes).get("error.type"): point.count for point in points} == {
        None: 1,
        "failed": 1,
        "rate_limited": 1,
    }
    assert not any(CANARY.encode() in body for body in collector.bodies)
    of_requests = [json.loads(line) for line in serving.output.splitlines() if '"server.requests"' in line]
    assert {line["trace_id"] for line in of_requests} >= {span.trace_id.hex() for span in failed}


def test_a_client_that_leaves_is_told(upstream: Upstream, upstream_url: str) -> None:
    collector = Collector()
    with served(collector.app) as url, telling(url, upstream_url) as (_, server):
        upstream.script(Answer(["one "], hold=True))
        with httpx.stream("POST", f"{server.url}{PATH}", json={**ASKING, "stream": True}, timeout=30) as stream:
            assert any("one" in line for line in stream.iter_lines())
        until(lambda: len(collector.spans) == 3)
    errors = {span.name: values(span.attributes).get("error.type") for span in collector.spans}
    assert errors == {
        f"POST {PATH}": "ConnectionError",
        "invoke_agent chat-agent": "cancelled",
        f"chat {MODEL}": "cancelled",
    }


def test_langserve_s_door_is_traced(upstream_url: str) -> None:
    collector = Collector()
    with served(collector.app) as url, telling(url, upstream_url) as (_, server):
        body = {"input": {"messages": [HELLO]}}
        assert httpx.post(f"{server.url}/agent/invoke", json=body, headers=GIVEN).status_code == 200
        assert httpx.get(f"{server.url}/health").status_code == 200
    request, agent = collector.named("POST /agent/invoke"), collector.named("invoke_agent chat-agent")
    assert ids(agent)[1] == ids(request)[0]
    assert len(collector.spans) == 3, "the health is nobody's request"


@pytest.mark.parametrize("given", [{}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}])
def test_what_is_not_sampled_is_measured(upstream: Upstream, upstream_url: str, given: dict[str, str]) -> None:
    collector = Collector()
    sampler = {} if given else {"OTEL_TRACES_SAMPLER": "always_off"}
    with served(collector.app) as url, telling(url, upstream_url, **sampler) as (_, server):
        assert server.post(ASKING, headers=given).status_code == 200
    assert not collector.spans
    (told,) = upstream.traces
    assert told is not None
    assert int(told[-2:], 16) % 2 == 0, "not sampled"
    (point,) = collector.metric("gen_ai.client.inference.duration").histogram.data_points
    assert point.count == 1


@pytest.mark.parametrize("is_there", [False, True], ids=["nobody", "one who says nothing"])
def test_a_collector_that_is_away_holds_nothing_up(upstream_url: str, is_there: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if is_there else free_port()
        with telling(f"http://127.0.0.1:{port}", upstream_url) as (serving, server):
            for _ in range(3):
                assert server.post(ASKING).status_code == 200
            began = time.monotonic()
            assert serving.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 6
    assert "Traceback" not in serving.output
    assert all("export" in line for line in serving.logged("error"))


def test_the_file_of_settings_counts_too(upstream_url: str) -> None:
    collector = Collector()
    with served(collector.app) as url:
        Path(".env").write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={url} # ours\nOTEL_SERVICE_NAME=mina\n")
        with telling("", upstream_url) as (_, server):
            assert server.post(ASKING).status_code == 200
    assert collector.resources[0]["service.name"] == "mina"


@pytest.mark.parametrize(
    ("settings", "spans", "is_warned"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, 0, True),
        ({"OTEL_METRICS_EXPORTER": "none"}, 3, False),
        pytest.param(
            *({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_METRICS_EXPORTER": "none"}, 0, True),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *({"OTEL_EXPORTER_OTLP_PROTOCOL": '"http/protobuf"', "OTEL_METRICS_EXPORTER": "none"}, 3, False),
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_what_is_not_wanted_or_cannot_be_had_is_not_sent(
    upstream_url: str, settings: dict[str, str], spans: int, is_warned: bool
) -> None:
    collector = Collector()
    with served(collector.app) as url, telling(f'"{url}"', upstream_url, **settings) as (serving, server):
        assert server.post(ASKING).status_code == 200
    assert (len(collector.spans), collector.metrics) == (spans, [])
    assert any("http/protobuf" in line for line in serving.logged("warning")) == is_warned


@pytest.mark.parametrize(("does", "error"), [("isError", "tool_error"), ("nothing", "ToolException")])
def test_a_tool_that_fails_says_how(
    upstream: Upstream, upstream_url: str, tmp_path: Path, does: str, error: str
) -> None:
    async def call(message: Json, _: Request) -> Response:
        return answer(message, {"content": [], "isError": True}) if does == "isError" else Response("", 500)

    collector, raw = Collector(), RawHttp(tool("look"), call=call)
    with served(raw.app) as mcp, served(collector.app) as url:
        config = tmp_path / "mcp.json"
        config.write_text(json.dumps({"mcpServers": {"one": {"url": f"{mcp}/mcp"}}}))
        with telling(url, upstream_url, USE_MCP_TOOLS="true", MCP_CONFIG=str(config)) as (_, server):
            upstream.script(Answer(calls=[Call("look", "{}")]), Answer(["well"]))
            assert server.post(ASKING).status_code == 200
    used = collector.named("execute_tool look")
    assert (used.status.code, values(used.attributes)["error.type"]) == (Status.STATUS_CODE_ERROR, error)
