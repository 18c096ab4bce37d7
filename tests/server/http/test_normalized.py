"""HEAD, slashes at the end of a path, and headers that say nothing."""

from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.settings import ServerSettings
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.upstream import Answer, Upstream

ASKING = {"model": MODEL, "messages": [HELLO]}
NAMES = ["X-Session-ID", "X-OpenWebUI-Chat-Id", "X-Conversation-Id"]


def listed(server: AgentServer) -> list[str]:
    """The ids of the sessions."""
    return [session["id"] for session in httpx.get(f"{server.url}/v1/sessions").json()["data"]]


@pytest.mark.parametrize("api_keys", ["", "key"])
def test_c14_head_is_answered_on_every_route_that_answers_get(upstream_url: str, api_keys: str) -> None:
    options: dict[str, Any] = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "api_keys": api_keys}
    routes = iter_route_contexts(create_app(ServerSettings(ollama_model=MODEL, **options)).routes)
    paths = [str(route.path) for route in routes if "GET" in (route.methods or ())]
    assert {"/v1/models", "/v1/sessions", "/health", "/ready", "/docs", "/openapi.json", "/"} <= set(paths)
    paths = [
        path.replace("{name:path}", MODEL).replace("{file_path:path}", "").replace("{session_id}", "s")
        for path in paths
    ]
    with agent_server(**options) as server, httpx.Client(base_url=server.url) as client:
        client.headers.update({"Authorization": "Bearer key"} if api_keys else {})
        client.post("/v1/chat/completions", json=ASKING, headers={"X-Session-ID": "s"})
        for path in [*paths, "/docs/assets/swagger-ui.css", "/v1/nothing"]:
            got, headed = client.get(path), client.head(path)
            assert headed.status_code == got.status_code, path
            assert headed.content == b"", path
            names = ("content-type", "content-length", "location", "www-authenticate")
            for name in names if path != "/metrics" else names[:1]:  # where each request adds to the next answer
                assert headed.headers.get(name) == got.headers.get(name), (path, name)
        assert client.head("/v1/models").headers["x-request-id"].startswith("req_")
        refused = client.head("/v1/chat/completions")
        assert (refused.status_code, refused.headers["Allow"], refused.content) == (405, "POST", b"")
        assert client.get("/v1/models").json()["data"], "the connection is in order after all those"


def test_c14_head_needs_a_key_as_get_does(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as server:
        statuses = {
            path: httpx.head(server.url + path).status_code for path in ("/v1/models", "/v1/models/", "/health")
        }
    assert statuses == {"/v1/models": 401, "/v1/models/": 401, "/health": 200}


def test_c14_a_slash_at_the_end_of_a_path_does_not_matter(server: AgentServer) -> None:
    with httpx.Client(base_url=server.url, headers={"X-Session-ID": "s"}) as client:
        answered = client.post("/v1/chat/completions/", json=ASKING)
        assert (answered.status_code, answered.json()["object"]) == (200, "chat.completion")
        for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/sessions", "/v1/sessions/s", "/v1/sessions/s/messages"):
            plain = client.get(path)
            assert plain.status_code == 200
            for slashes in ("/", "//"):
                assert client.get(path + slashes).json() == plain.json(), path
        assert client.get("/v1/sessions/", params={"limit": 1}).json()["object"] == "list"
        assert client.post("/v1/sessions/s/reset/").status_code == 200
        assert client.delete("/v1/sessions/s/").json()["deleted"] is True
        assert client.get("/v1/").status_code == 404
        assert client.get("/v1/models/no such/").json()["error"]["code"] == "model_not_found"


def test_c14_a_session_header_that_is_empty_is_as_good_as_none(server: AgentServer) -> None:
    blank = ""
    for headers in ({name: blank} for name in [*NAMES, "X-Session-Mode"]):
        answered = server.post(ASKING, headers=headers)
        assert answered.status_code == 200, answered.text
        assert len(answered.headers["X-Session-ID"]) == 36, "a session of its own"
    later = server.post({**ASKING, "metadata": {"session_id": "m"}}, headers={**dict.fromkeys(NAMES, blank)})
    assert later.headers["X-Session-ID"] == "m", "what comes after it is looked at"
    third = server.post(ASKING, headers={"X-Session-ID": blank, "X-Conversation-Id": "c"})
    assert third.headers["X-Session-ID"] == "c"
    assert httpx.get(f"{server.url}/v1/models", headers={"X-Session-ID": blank}).status_code == 200
    invoked = httpx.post(
        f"{server.url}/agent/invoke", json={"input": {"messages": [HELLO]}}, headers={"X-Session-ID": blank}
    )
    assert invoked.status_code == 200


@pytest.mark.parametrize("header", ["X-OpenWebUI-Chat-Id", "X-Conversation-Id"])
@pytest.mark.parametrize("chat", ["temporary:3f0c", "local:AbC_d-1", "local:", "local", "temporary"])
def test_c12_a_temporary_chat_of_another_program_is_not_kept(
    server: AgentServer, upstream: Upstream, header: str, chat: str
) -> None:
    history = [HELLO, {"role": "assistant", "content": "Hi."}, HELLO]
    for messages in ([HELLO], history):
        answered = server.post({"model": MODEL, "messages": messages}, headers={header: chat})
        assert answered.status_code == 200, answered.text
        assert [message["content"] for message in upstream.last["messages"][1:]] == [
            said["content"] for said in messages
        ]
    assert server.post({**ASKING, "n": 2}, headers={header: chat}).status_code == 200, "as with store: false"
    assert server.post({**ASKING, "stream": True}, headers={header: chat}).status_code == 200
    assert listed(server) == []
    assert httpx.get(f"{server.url}/v1/sessions/{chat}").status_code == 404


@pytest.mark.parametrize("chat", ["temporarily", "localhost", "my-local:chat", "LOCAL:x", "channel:c"])
def test_c12_another_chat_is_kept(server: AgentServer, chat: str) -> None:
    assert server.post(ASKING, headers={"X-OpenWebUI-Chat-Id": chat}).status_code == 200
    assert listed(server) == [chat]


@pytest.mark.parametrize("named", [{"headers": {"X-Session-ID": "local:mine"}}, {"session_id": "local:mine"}])
def test_c12_an_id_in_our_own_words_is_kept_whatever_it_is(server: AgentServer, named: dict[str, Any]) -> None:
    headers = named.pop("headers", None)
    assert server.post({**ASKING, **named}, headers=headers).status_code == 200
    assert listed(server) == ["local:mine"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer",
    [Answer(status=400, error="no such thing"), Answer(["Half an"], finish_reason="", usage=None)],
    ids=["at once", "in the middle"],
)
def test_c15_a_request_that_failed_leaves_no_session(
    server: AgentServer, upstream: Upstream, answer: Answer, stream: bool
) -> None:
    upstream.otherwise = answer
    failed = server.post({**ASKING, "stream": stream})
    assert '"error"' in failed.text
    assert listed(server) == []
    session = failed.headers["X-Session-ID"]
    assert httpx.get(f"{server.url}/v1/sessions/{session}").status_code == 404
    upstream.otherwise = Answer(["Hello."])
    assert server.ask("hello", session=session) == "Hello."
    assert listed(server) == [session]


def test_c15_a_session_that_was_there_stays(server: AgentServer, upstream: Upstream) -> None:
    server.ask("hello", session="s")
    upstream.script(Answer(status=400, error="no such thing"))
    assert server.post(ASKING, headers={"X-Session-ID": "s"}).status_code == 400
    assert listed(server) == ["s"]
    httpx.post(f"{server.url}/v1/sessions/s/reset")
    upstream.script(Answer(status=400, error="no such thing"))
    assert server.post(ASKING, headers={"X-Session-ID": "s"}).status_code == 400
    assert listed(server) == ["s"], "it was there, though nothing had been said in it"
