"""Keys, models, health and the playground: what else answers beside chat."""

from typing import Any

import httpx
import openai
import pytest
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.settings import ServerSettings
from tests.agent_server import MODEL, AgentServer, agent_server
from tests.loopback import free_port
from tests.open_meteo import OpenMeteo
from tests.upstream import Answer, Call, Upstream
from tests.waiting import until


def test_nothing_but_health_answers_without_a_key(upstream_url: str) -> None:
    settings: dict[str, Any] = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": "key-a,key-b"}
    app = create_app(ServerSettings(ollama_model=MODEL, **settings))
    routes = {route.path: route.methods or () for route in iter_route_contexts(app.routes) if route.path}
    assert routes.keys() >= {"/v1/chat/completions", "/v1/sessions/{session_id}", "/agent/stream", "/docs"}
    with agent_server(**settings) as server:
        for route, methods in routes.items():
            for method in methods:
                path = route.replace("{session_id}", "s").replace("{name:path}", MODEL)
                response = httpx.request(method, server.url + path)
                assert response.status_code == (200 if path == "/health" else 401), f"{method} {path}"
                if path != "/health" and method != "HEAD":
                    assert response.json()["error"]["type"] == "invalid_request_error"
                    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_opens_and_a_wrong_one_does_not(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key-a,key-b") as server:
        for key in ("key-a", "key-b"):
            with server.client(key=key) as client:
                assert client.models.list().data
        with server.client(key="sk-wrong-key") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sk-wrong-key" not in str(caught.value)


def test_without_keys_any_key_opens(server: AgentServer) -> None:
    with server.client(key="whatever") as client:
        assert [model.id for model in client.models.list()] == [MODEL]


def test_models_are_the_configured_one_and_its_aliases(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(
        ollama_model="library/llama3.2:1b",
        ollama_base_url=upstream_url,
        use_mcp_tools=False,
        model_aliases="gpt-4o=library/llama3.2:1b, other=qwen3:8b",
    ) as server:
        with server.client() as client:
            models = client.models.list().data
            assert [(model.id, model.owned_by, model.object) for model in models] == [
                ("library/llama3.2:1b", "ollama", "model"),
                ("test-model", "ollama", "model"),
                ("gpt-4o", "ollama", "model"),
                ("other", "ollama", "model"),
            ]
            assert client.models.retrieve("library/llama3.2:1b").id == "library/llama3.2:1b"
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve("gpt-9")
            assert caught.value.code == "model_not_found"
            for name, model in (("library/llama3.2:1b", "library/llama3.2:1b"), ("other", "qwen3:8b")):
                completion = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])
                assert (completion.model, upstream.last["model"]) == (name, model)


def test_models_of_the_endpoint_are_listed_once_a_minute_and_can_be_narrowed(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.models = ["a", "b", "c"]
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "models": "c, a, x"}
    with agent_server(**options) as server:
        for _ in range(3):
            listed = httpx.get(f"{server.url}/v1/models").json()["data"]
            assert [model["id"] for model in listed] == [MODEL, "a", "c"]
            until(lambda: upstream.listed == 2)  # once for us, and once to see at the start that it answers
        for name, status in (("a", 200), ("b", 404), ("x", 404)):
            assert server.post({"model": name, "messages": [{"role": "user", "content": "?"}]}).status_code == status
    assert upstream.last["model"] == "a"


def test_an_endpoint_that_cannot_list_its_models_still_answers(upstream_url: str) -> None:
    with agent_server(ollama_base_url=f"{upstream_url}/nowhere", use_mcp_tools=False) as server:
        assert [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]] == [MODEL]


def test_a7_web_pages_of_the_named_origins_may_use_the_api(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": "key"}
    asking = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-session-id, x-stainless-lang",
    }
    with agent_server(**options, cors_origins="https://chat.example.com") as server:
        url = f"{server.url}/v1/chat/completions"
        ours, others = ({"Origin": f"https://{host}"} for host in ("chat.example.com", "example.com"))
        preflight = httpx.options(url, headers={**asking, **ours})
        assert preflight.status_code == 200, "it has no key yet"
        assert preflight.headers["access-control-allow-origin"] == "https://chat.example.com"
        assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
        assert httpx.options(url, headers={**asking, **others}).status_code == 400
        refused = httpx.post(url, json={}, headers=ours)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://chat.example.com"
        exposed = refused.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("x-request-id", "retry-after", "x-should-retry", "x-session-id"))
    with agent_server(**options) as server:
        answer = httpx.post(f"{server.url}/v1/chat/completions", json={}, headers=ours)
        assert "access-control-allow-origin" not in answer.headers


def test_a8_the_key_may_come_as_azure_s_clients_send_it(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as server:
        statuses = [httpx.get(f"{server.url}/v1/models", headers={"api-key": key}).status_code for key in ("key", "no")]
    assert statuses == [200, 401]


def test_an_alias_for_all_names_takes_all_names(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, model_aliases=f"*={MODEL}") as server:
        assert server.post({"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}).status_code == 200
        assert [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]] == [MODEL]
    assert upstream.last["model"] == MODEL


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
