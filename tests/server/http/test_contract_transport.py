"""docs/contract.md, section A: routes, headers and keys. What a client that leaves does is in test_disconnect.py."""

from typing import Any

import httpx
import openai
import pytest
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.settings import ServerSettings
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.upstream import Answer, Upstream

ASKING = {"model": MODEL, "messages": [HELLO]}


@pytest.mark.parametrize("name", ["library/llama3.2:1b", "library%2Fllama3.2%3A1b"])
def test_a1_a_model_s_name_may_have_slashes_and_colons(upstream_url: str, name: str) -> None:
    with agent_server(ollama_model="library/llama3.2:1b", ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        assert httpx.get(f"{server.url}/v1/models/{name}").json()["id"] == "library/llama3.2:1b"
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "library/llama3.2:1b"
        assert server.post({**ASKING, "model": "library/llama3.2:1b"}).status_code == 200


def test_a2_a3_the_form_of_an_answer_is_what_stream_says_whatever_is_accepted(server: AgentServer) -> None:
    for accept in ("application/json", "*/*", "text/event-stream", "text/html"):
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate, br"}
        whole = server.post(ASKING, headers=headers)
        stream = server.post({**ASKING, "stream": True}, headers=headers)
        assert whole.headers["Content-Type"] == "application/json"
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert not {"Content-Encoding", "Content-Length"} & {name.title() for name in stream.headers}


def test_a5_every_answer_has_a_request_id_of_its_own(upstream: Upstream, upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": "key"}
    chat, key = "/v1/chat/completions", {"Authorization": "Bearer key"}
    asked: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "POST", chat, {"json": ASKING}),
        (200, "POST", chat, {"json": {**ASKING, "stream": True}}),
        (200, "GET", "/v1/models", {}),
        (200, "GET", "/docs", {}),
        (200, "OPTIONS", chat, {"headers": {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}}),
        (400, "POST", chat, {"json": {}}),
        (401, "POST", chat, {"json": ASKING, "headers": {"Authorization": "Bearer no"}}),
        (404, "GET", "/v1/nothing", {}),
        (405, "PUT", chat, {}),
        (413, "POST", chat, {"content": b"x" * 1001}),
        (415, "POST", chat, {"content": b"{}", "headers": {**key, "Content-Type": "text/plain"}}),
        (502, "POST", chat, {"json": ASKING}),
    ]
    ids = set()
    with agent_server(**options, cors_origins="*", max_request_bytes=1000) as server:
        for status, method, path, request in asked:
            upstream.otherwise = Answer(["Hello."], status=500 if status == 502 else 200)
            headers = {"X-Request-ID": "theirs", "X-Client-Request-Id": "theirs", **request.pop("headers", key)}
            answer = httpx.request(method, server.url + path, headers=headers, **request)
            assert answer.status_code == status
            assert answer.headers["x-request-id"].startswith("req_")
            assert "theirs" not in answer.headers.values()
            ids.add(answer.headers["x-request-id"])
    assert len(ids) == len(asked)


def test_a6_a_method_that_is_not_allowed_is_told_which_are(server: AgentServer) -> None:
    allowed = {"/v1/chat/completions": "POST", "/v1/models": "GET, HEAD", "/v1/sessions/s": "DELETE, GET, HEAD"}
    for path, methods in allowed.items():
        answer = httpx.put(server.url + path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


def test_a6_a8_nothing_but_health_answers_without_a_key(upstream_url: str) -> None:
    settings: dict[str, Any] = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": "key-a,key-b"}
    app = create_app(ServerSettings(ollama_model=MODEL, **settings))
    routes = [(str(route.path), route.methods or ()) for route in iter_route_contexts(app.routes)]
    routes.append(("/docs/assets/swagger-ui.css", {"GET"}))
    assert dict(routes).keys() >= {"/v1/chat/completions", "/agent/invoke", "/docs"}
    with agent_server(**settings) as server:
        for path, methods in routes:
            for method in methods:
                # A proxy's client, since /metrics is open to this machine itself.
                response = httpx.request(method, server.url + path, headers={"X-Forwarded-For": "203.0.113.9"})
                assert response.status_code == (200 if path == "/health" else 401), f"{method} {path}"
                if path not in ("/health", "/login") and method != "HEAD":  # the latter answers with a form
                    assert response.json()["error"]["type"] == "invalid_request_error"
                    assert response.headers["WWW-Authenticate"] == "Bearer"


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


def test_a8_a_key_opens_and_a_wrong_one_does_not(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key-a,key-b") as server:
        for key in ("key-a", "key-b"):
            with server.client(key=key) as client:
                assert client.models.list().data
        with server.client(key="sk-wrong-key") as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sk-wrong-key" not in str(caught.value)


def test_a8_the_key_may_come_as_azure_s_clients_send_it(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as server:
        statuses = [httpx.get(f"{server.url}/v1/models", headers={"api-key": key}).status_code for key in ("key", "no")]
    assert statuses == [200, 401]


def test_a8_without_keys_any_key_or_none_opens(server: AgentServer) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}, {"api-key": "x"}):
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
