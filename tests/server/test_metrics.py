"""What Prometheus reads."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

ASKING: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}
Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str) -> dict[Sample, float]:
    """Return all values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(server: AgentServer, **headers: str) -> dict[Sample, float]:
    answer = httpx.get(f"{server.url}/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


def value(told: dict[Sample, float], name: str, **labels: str) -> float:
    return told[f"chat_agent_{name}", frozenset(labels.items())]


def test_requests_tokens_tools_and_parts_are_counted(weather_server: AgentServer, upstream: Upstream) -> None:
    for stream in (True, False):
        upstream.script(Answer(calls=[Call("get_weather", '{"city": "서울"}')]), Answer(["5 °C"]))
        assert weather_server.post({**ASKING, "stream": stream}).status_code == 200
    assert httpx.get(f"{weather_server.url}/{'x' * 1000}").status_code == 404
    told = read(weather_server)
    route = "/v1/chat/completions"
    assert value(told, "requests_total", route=route, status="200", key="") == 2
    assert value(told, "requests_total", route="other", status="404", key="") == 1
    assert value(told, "request_seconds_count", route=route) == 2
    assert value(told, "tokens_total", direction="input", model=MODEL, key="") == 40
    assert value(told, "tokens_total", direction="output", model=MODEL, key="") == 20
    assert value(told, "first_token_seconds_count", model=MODEL) == 2
    assert value(told, "tool_seconds_count", tool="get_weather", failed="false") == 2
    assert value(told, "sessions") == 2
    assert value(told, "database_pieces_total", work="write") == 3, "the tables at the start, and each turn"
    assert value(told, "database_seconds_total", work="write") > 0
    assert value(told, "mcp_server_up", server="bundled") == 1
    assert value(told, "mcp_tools", server="bundled") == 2
    assert value(told, "runs") == value(told, "queued_requests") == 0


def test_runs_in_progress_are_told(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one"], hold=True))
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**ASKING, "stream": True}) as answer:
        parts = answer.iter_raw()  # held on to: once it is gone, so is the connection
        until(lambda: b"one" in next(parts))
        assert value(read(server), "runs") == 1
    until(lambda: value(read(server), "runs") == 0)


def test_the_counts_are_for_this_machine_or_a_key_of_their_own(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": "mina:secret"}
    with agent_server(**options) as server:
        for headers in (
            {"X-Forwarded-For": "203.0.113.9"},
            {"Forwarded": "for=203.0.113.9"},
            {"X-Real-IP": "203.0.113.9"},
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
        ):
            assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 401, "a proxy's client"
        httpx.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer wrong"})
        server.post(ASKING, headers={"Authorization": "Bearer secret"})
        told = read(server)
        assert value(told, "wrong_keys_total") == 1
        assert value(told, "requests_total", route="/v1/chat/completions", status="200", key="mina") == 1
        assert "secret" not in httpx.get(f"{server.url}/metrics").text
    with agent_server(**options, metrics_key="reader") as server:
        assert read(server, Authorization="Bearer reader")
        for key in ("secret", "wrong", ""):
            refused = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {key}x"})
            assert refused.status_code == 401


def test_the_dashboard_shows_what_there_is(server: AgentServer, upstream: Upstream) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana.json").read_text())
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"chat_agent_\w+", target["expr"])
    }
    upstream.script(Answer(["x"]))
    server.ask("x")
    families = list(text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text))
    told = {sample.name for family in families for sample in family.samples}
    known = told | {f"{family.name}{end}" for family in families for end in ("", "_total", "_bucket")}
    assert len(shown) > 10
    assert shown <= known


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_readme_names_it(page: str) -> None:
    assert "/metrics" in Path(ROOT / page).read_text()
