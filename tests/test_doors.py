"""Health, the playground and the docs: what else answers beside the API."""

import httpx
import pytest

from tests.agent_server import AgentServer, agent_server
from tests.loopback import free_port
from tests.open_meteo import OpenMeteo
from tests.upstream import Answer, Call, Upstream
from tests.waiting import until


def test_the_upstream_gets_the_configured_key_and_never_the_clients(upstream: Upstream, upstream_url: str) -> None:
    settings = {"ollama_base_url": upstream_url, "ollama_api_key": "upstream-key\n"}  # as the files of secrets end
    with agent_server(use_mcp_tools=False, **settings) as server:
        server.ask("hello")
    assert upstream.keys == ["Bearer upstream-key"]


def test_health_is_healthy(server: AgentServer) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "healthy"}


def test_ready_tells_of_every_part(weather_server: AgentServer) -> None:
    weather_server.ask("hello")  # waits for the tools
    response = httpx.get(f"{weather_server.url}/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "model": {"state": "ready", "error": None},
        "checkpointer": {"state": "ready", "error": None},
        "mcp": {"bundled": {"state": "ready", "tools": 2, "error": None}},
    }


def test_ready_says_which_part_is_down() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with agent_server(ollama_base_url=nobody, mcp_base_url=nobody) as server:
        response = httpx.get(f"{server.url}/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["model"] == {"state": "down", "error": "The model endpoint cannot be reached."}


def test_an_mcp_server_that_is_down_degrades_and_does_not_stop(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, mcp_base_url=f"http://127.0.0.1:{free_port()}") as server:
        assert server.ask("hello") == "You said: hello"
        response = httpx.get(f"{server.url}/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["mcp"]["mcp"] == {
        "state": "down",
        "tools": 0,
        "error": "All connection attempts failed",
    }


def test_the_playground_answers_with_tools_and_shows_nothing_inner(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    assert "<title>" in httpx.get(f"{weather_server.url}/agent/playground/").text
    # The form that its front-end asks for: one list of messages in, one string out.
    assert httpx.get(f"{weather_server.url}/agent/output_schema").json()["type"] == "string"
    assert set(httpx.get(f"{weather_server.url}/agent/input_schema").json()["properties"]) == {"messages"}
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["It is ", "5.3 °C."]))
    question = {"messages": [{"type": "human", "content": "Weather?"}]}
    log = httpx.post(f"{weather_server.url}/agent/stream_log", json={"input": question, "config": {}})
    assert "It is " in log.text
    assert len(open_meteo.forecasts) == 1
    assert "helpful assistant" not in log.text, "the agent's prompt"
    assert "light rain" not in log.text, "a tool's result"


QUESTION = {"input": {"messages": [{"type": "human", "content": "hello"}]}, "config": {}}


@pytest.mark.parametrize("endpoint", ["stream", "stream_log"])
def test_a_failure_in_the_playground_is_told_as_text(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    upstream.otherwise = Answer(status=500, error="secret stack")
    response = httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION)
    assert "The model endpoint answered with status 500." in response.text
    assert "event: end" in response.text
    assert "secret" not in response.text + caplog.text


@pytest.mark.parametrize("endpoint", ["stream", "stream_log"])
def test_whoever_leaves_the_playground_stops_the_model(server: AgentServer, upstream: Upstream, endpoint: str) -> None:
    upstream.script(Answer(["Once ", "upon ", "a time"], hold=True))
    with httpx.stream("POST", f"{server.url}/agent/{endpoint}", json=QUESTION) as response:
        received = ""
        for part in response.iter_text():
            received += part
            if "a time" in received:
                break
    until(lambda: upstream.closed_early == 1, within=1.0)


def test_the_playground_has_no_endpoint_that_outlives_its_client(server: AgentServer) -> None:
    for endpoint in ("invoke", "batch", "stream_events"):
        assert httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION).status_code == 404


def test_the_docs_describe_the_api(server: AgentServer) -> None:
    assert "swagger" in httpx.get(f"{server.url}/docs").text.lower()
    assert "/v1/chat/completions" in httpx.get(f"{server.url}/openapi.json").json()["paths"]
