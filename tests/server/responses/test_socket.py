"""A WebSocket at /v1/responses (R62), with the openai package and with a bare client."""

import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.responses import get, user
from tests.support.sockets import answer, ask, connected, said
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until


def shown(upstream: Upstream) -> list[str]:
    return [message["content"] for message in upstream.last["messages"] if message["role"] != "system"]


def test_r62_the_events_are_those_of_the_stream_and_a_chain_is_stored(server: AgentServer) -> None:
    with connected(server) as socket:
        first = ask(socket, input="one")
        assert [event["sequence_number"] for event in first] == list(range(len(first)))
        assert (first[0]["type"], first[-1]["type"]) == ("response.created", "response.completed")
        assert said(first) == "You said: one"
        stored = first[-1]["response"]
        assert get(server, stored["id"]).json() == stored
        assert said(ask(socket, input="two", previous_response_id=stored["id"])) == "You said: two"


# The package calls the newest websockets in a way that these warn of.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_r62_the_openai_package_connects(server: AgentServer) -> None:
    with server.client() as client, client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="hello")
        texts = []
        for event in connection:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
            if event.type == "response.completed":
                break
    assert "".join(texts) == "You said: hello"


def test_r62_what_is_not_stored_goes_on_within_its_connection_and_nowhere_else(
    server: AgentServer, upstream: Upstream
) -> None:
    with connected(server) as socket:
        first = ask(socket, input="one", store=False)[-1]["response"]
        second = ask(socket, input="two", store=False, previous_response_id=first["id"])[-1]["response"]
        third = ask(socket, input=[user("three")], store=False, previous_response_id=second["id"])
        assert said(third) == "You said: three"
        assert shown(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
        assert get(server, first["id"]).status_code == 404

        [error] = ask(socket, input="again", store=False, previous_response_id=first["id"])
        assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found"), "only the last one"
    with connected(server) as socket:
        [error] = ask(socket, input="four", store=False, previous_response_id=third[-1]["response"]["id"])
        assert error["error"]["code"] == "previous_response_not_found"


def test_r62_an_unstored_response_may_follow_a_conversation(server: AgentServer, upstream: Upstream) -> None:
    conversation = httpx.post(f"{server.url}/v1/conversations", json={"items": [user("zero")]}).json()["id"]
    with connected(server) as socket:
        loose = ask(socket, input="one", conversation=conversation, store=False)[-1]["response"]
        ask(socket, input="two", store=False, previous_response_id=loose["id"])
        assert shown(upstream) == ["zero", "one", "You said: one", "two"]


def test_r62_half_a_character_is_read_as_over_http(server: AgentServer) -> None:
    with connected(server) as socket:
        assert said(ask(socket, input="x\ud800")) == "You said: x\ufffd"
        socket.send('{"type": "response.create", "input": "x", "temperature": NaN}')
        [error] = answer(socket)
        assert error["status"] == 400


def test_r62_an_unstored_response_may_follow_a_stored_one(server: AgentServer, upstream: Upstream) -> None:
    with connected(server) as socket:
        kept = ask(socket, input="one")[-1]["response"]
        loose = ask(socket, input="two", store=False, previous_response_id=kept["id"])[-1]["response"]
        ask(socket, input="three", store=False, previous_response_id=loose["id"])
        assert shown(upstream) == ["one", "You said: one", "two", "You said: two", "three"]


def test_r62_a_failed_continuation_is_forgotten(server: AgentServer, upstream: Upstream) -> None:
    with connected(server) as socket:
        first = ask(socket, input="one", store=False)[-1]["response"]
        upstream.script(Answer(status=400, error="no"))
        assert ask(socket, input="two", store=False, previous_response_id=first["id"])[-1]["type"] == "error"
        [error] = ask(socket, input="two", store=False, previous_response_id=first["id"])
        assert error["error"]["code"] == "previous_response_not_found"


def test_r62_messages_are_answered_in_their_order(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["slow"], pause=0.3))
    with connected(server) as socket:
        for text in ("one", "two", "three"):
            socket.send(json.dumps({"type": "response.create", "model": MODEL, "input": text}))
        assert [said(answer(socket)) for _ in range(3)] == ["slow", "You said: two", "You said: three"]


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("{", None, None),
        ("[]", "type", "invalid_value"),
        ('{"type": "response.steer"}', "type", "invalid_value"),
        ('{"type": "response.create", "generate": false}', "generate", "unsupported_parameter"),
        ('{"type": "response.create", "input": "x"}', None, None),
        ('{"type": "response.create", "model": "unknown", "input": "x"}', None, "model_not_found"),
    ],
)
def test_r62_errors_are_envelopes_with_a_status_and_the_connection_goes_on(
    server: AgentServer, message: str, param: str | None, code: str
) -> None:
    with connected(server) as socket:
        socket.send(message)
        [error] = answer(socket)
        assert error["type"] == "error"
        assert 400 <= error["status"] < 500
        assert (error["error"]["param"], error["error"]["code"]) == (param, code)
        assert said(ask(socket, input="one")) == "You said: one"


def test_r62_a_client_that_leaves_stops_the_model(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one "], hold=True))
    with connected(server) as socket:
        socket.send(json.dumps({"type": "response.create", "model": MODEL, "input": "count"}))
        until(lambda: upstream.streaming == 1)
    until(lambda: upstream.closed_early == 1)
    until(lambda: upstream.streaming == 0)


def test_a_connection_needs_a_key_and_its_requests_are_the_keys(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=("mina:right", "other")) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(InvalidStatus) as refused, connected(server, **headers):
                pass
            assert refused.value.response.status_code == 401
        with connected(server, Authorization="Bearer right") as socket:
            response = ask(socket, input="one")[-1]["response"]
        with connected(server, Authorization="Bearer other") as socket:
            [error] = ask(socket, input="two", previous_response_id=response["id"])
        assert error["error"]["code"] == "previous_response_not_found"


def test_other_sites_do_not_connect_from_a_browser(server: AgentServer) -> None:
    with pytest.raises(InvalidStatus) as refused, connected(server, Origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with connected(server, Origin=server.url) as socket:
        assert said(ask(socket, input="one")) == "You said: one"


def test_there_is_no_websocket_elsewhere(server: AgentServer) -> None:
    url = server.url.replace("http", "ws", 1)
    for path in ("/v1/chat/completions", "/v1/models", "/"):
        with pytest.raises((InvalidStatus, ConnectionClosed)), connect(f"{url}{path}", proxy=None):
            pass
