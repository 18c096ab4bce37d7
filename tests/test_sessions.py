"""Sessions: who a request belongs to, what is remembered, and what is not."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.agent_server import MODEL, AgentServer, agent_server
from tests.upstream import Answer, Call, Upstream

QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def texts(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the system message."""
    return [message["content"] for message in upstream.last["messages"][1:]]


def test_a_named_session_goes_on_with_what_is_new(server: AgentServer, upstream: Upstream) -> None:
    server.ask("My name is Mina.", session="s")
    server.ask("What is my name?", session="s")
    assert texts(upstream) == ["My name is Mina.", "You said: My name is Mina.", "What is my name?"]


def test_a_client_that_sends_its_history_does_not_double_it(server: AgentServer, upstream: Upstream) -> None:
    messages: list[dict[str, str]] = []
    for turn in range(4):
        messages.append({"role": "user", "content": f"question {turn}"})
        body = server.post({"model": MODEL, "messages": messages}, headers={"X-Session-ID": "s"}).json()
        messages.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
    assert texts(upstream) == [message["content"] for message in messages[:-1]]


def test_what_a_server_tool_found_is_remembered(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["5.3 °C"]))
    weather_server.ask("Weather?", session="s")
    weather_server.ask("And tomorrow?", session="s")
    assert [message["role"] for message in upstream.last["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


def test_without_a_name_every_request_is_a_session_of_its_own_that_can_be_continued(
    server: AgentServer, upstream: Upstream
) -> None:
    first, second = (server.post(QUESTION).headers["X-Session-ID"] for _ in range(2))
    assert first != second
    assert len(texts(upstream)) == 1
    server.ask("again", session=first)
    assert texts(upstream) == ["hello", "You said: hello", "again"]


@pytest.mark.parametrize("header", ["X-Session-ID", "X-OpenWebUI-Chat-Id", "X-Conversation-Id"])
def test_a_header_names_the_session(server: AgentServer, upstream: Upstream, header: str) -> None:
    for _ in range(2):
        response = server.post(QUESTION, headers={header: "chat-1"})
        assert response.headers["X-Session-ID"] == "chat-1"
    assert len(texts(upstream)) == 3


@pytest.mark.parametrize("fields", [{"session_id": "chat-1"}, {"metadata": {"session_id": "chat-1"}}])
def test_the_body_names_the_session(server: AgentServer, upstream: Upstream, fields: dict[str, object]) -> None:
    for _ in range(2):
        assert server.post({**QUESTION, **fields}).headers["X-Session-ID"] == "chat-1"
    assert len(texts(upstream)) == 3


def test_the_first_name_wins(server: AgentServer) -> None:
    response = server.post({**QUESTION, "session_id": "body"}, headers={"X-Conversation-Id": "header"})
    assert response.headers["X-Session-ID"] == "header"


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "../etc", "한글"])
def test_a_session_id_that_is_none_is_refused(server: AgentServer, upstream: Upstream, name: str) -> None:
    response = server.post({**QUESTION, "session_id": name})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "session_id"
    assert response.headers["X-Session-ID"]
    assert upstream.requests == []


def test_a_session_outlives_the_server(upstream: Upstream, upstream_url: str) -> None:
    for question in ("My name is Mina.", "What is my name?"):
        with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
            server.ask(question, session="s")
    assert texts(upstream) == ["My name is Mina.", "You said: My name is Mina.", "What is my name?"]


def test_sessions_in_memory_leave_no_file(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, checkpoint_url="memory://") as server:
        server.ask("hello")
    assert list(Path().iterdir()) == []


def test_the_database_is_for_its_owner_alone(server: AgentServer) -> None:
    server.ask("hello")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("data").iterdir()}
    assert modes["chat-agent.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_reset_session_starts_anew_under_its_id(server: AgentServer, upstream: Upstream) -> None:
    server.ask("hello", session="s")
    response = httpx.post(f"{server.url}/v1/sessions/s/reset")
    assert (response.status_code, response.json()["id"]) == (200, "s")
    assert response.headers["X-Session-ID"] == "s"
    server.ask("who am I?", session="s")
    assert texts(upstream) == ["who am I?"]


def test_a_deleted_session_is_gone(server: AgentServer) -> None:
    server.ask("hello", session="s")
    assert httpx.delete(f"{server.url}/v1/sessions/s").json() == {
        "id": "s",
        "object": "session.deleted",
        "deleted": True,
    }
    again = httpx.delete(f"{server.url}/v1/sessions/s")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "session_not_found")


def test_requests_of_one_session_run_one_after_the_other(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["a", "b", "c"], pause=0.05)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: server.ask(f"question {n}", session="s"), range(5)))
    assert len(texts(upstream)) == 9
    assert sorted(texts(upstream)[::2]) == [f"question {n}" for n in range(5)]
    assert texts(upstream)[1::2] == ["abc"] * 4


def test_a_request_that_waits_too_long_is_told_so(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["a"], hold=True))
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_wait=0.2) as server:
        with httpx.stream(
            "POST",
            f"{server.url}/v1/chat/completions",
            json={**QUESTION, "stream": True},
            headers={"X-Session-ID": "s"},
        ) as holding:
            received = holding.iter_bytes()
            next(received)
            busy = server.post(QUESTION, headers={"X-Session-ID": "s"})
            other = server.post(QUESTION, headers={"X-Session-ID": "t"})
    assert (busy.status_code, busy.headers["Retry-After"]) == (409, "1")
    assert busy.json()["error"]["code"] == "session_busy"
    assert other.status_code == 200


def test_two_keys_with_the_same_session_id_never_meet(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key-a, key-b") as server:
        for key in ("key-a", "key-b"):
            with server.client(key=key, session="shared") as client:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"I am {key}"}])
        assert texts(upstream) == ["I am key-b"]
        unknown = httpx.delete(f"{server.url}/v1/sessions/other", headers={"Authorization": "Bearer key-a"})
    assert unknown.status_code == 404
