"""Structured output: the answer is in the format that was asked for, and tools are called all the same."""

import json
from typing import Any

import pytest

from tests.support.agent_server import MODEL, AgentServer
from tests.support.client_tools import ASK
from tests.support.upstream import Answer, Call, Upstream

Json = dict[str, Any]

FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "report",
        "strict": True,
        "schema": {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]},
    },
}
BODY: Json = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How warm is Seoul?"}],
    "response_format": FORMAT,
}


def look_up_first(request: Json) -> Answer:
    """A model that is held to the format if it is given one, as llama.cpp, Ollama and vLLM hold theirs."""
    results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    if "response_format" in request:
        return Answer([json.dumps({"celsius": 5.3 if results else 31.5})])
    if results or not request.get("tools"):
        return Answer(["It is ", "5.3 °C."])
    return Answer(["One moment."], [Call(request["tools"][-1]["function"]["name"], '{"city": "Seoul"}')])


@pytest.mark.parametrize("stream", [False, True])
def test_b11_the_answer_is_in_the_format_and_nothing_else_is_said(
    weather_server: AgentServer, upstream: Upstream, stream: bool
) -> None:
    upstream.otherwise = look_up_first
    with weather_server.client() as client:
        if stream:
            chunks = client.chat.completions.create(**BODY, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            completion = client.chat.completions.create(**BODY)
            text = completion.choices[0].message.content or ""
            assert completion.usage is not None
            assert completion.usage.prompt_tokens == 30, "of three model calls"
    assert json.loads(text) == {"celsius": 5.3}
    asked = [("tools" in request, request.get("response_format")) for request in upstream.requests]
    assert asked == [(True, None), (True, None), (False, FORMAT)]


def test_b11_the_session_goes_on_from_what_was_said(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = look_up_first
    first = weather_server.post({**BODY, "session_id": "s"}).json()["choices"][0]["message"]
    messages = [*BODY["messages"], first, {"role": "user", "content": "And now?"}]
    weather_server.post({"model": MODEL, "messages": messages, "session_id": "s"})
    roles = [(message["role"], message["content"]) for message in upstream.last["messages"][1:]]
    assert [role for role, _ in roles] == ["user", "assistant", "tool", "assistant", "user"], "the tool call is kept"
    assert [text for role, text in roles if role == "assistant"] == [None, '{"celsius": 5.3}']


def test_without_tools_the_format_takes_one_model_call(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = look_up_first
    assert json.loads(server.ask("How warm?", response_format=FORMAT)) == {"celsius": 31.5}
    assert [request["response_format"] for request in upstream.requests] == [FORMAT]


def test_a_format_that_is_text_is_none(weather_server: AgentServer, upstream: Upstream) -> None:
    assert weather_server.ask("hello", response_format={"type": "text"}) == "You said: hello"
    assert len(upstream.requests) == 1


def test_b11_a_client_s_tools_are_called_before_the_format_binds(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = look_up_first
    body = {**BODY, "tools": [ASK], "session_id": "s"}
    called = server.post(body).json()["choices"][0]
    assert (called["finish_reason"], called["message"]["content"]) == ("tool_calls", None)
    [call] = called["message"]["tool_calls"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "5.3"}]
    answer = server.post({**body, "messages": results}).json()["choices"][0]["message"]
    assert json.loads(answer["content"]) == {"celsius": 5.3}


@pytest.mark.parametrize(
    ("response_format", "param", "code"),
    [
        ("json_object", "response_format", "invalid_type"),
        ({}, "response_format.type", "missing_required_parameter"),
        ({"type": "yaml"}, "response_format.type", "invalid_value"),
        ({"type": "json_schema"}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"type": "json_schema", "json_schema": {}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a b"}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": "{}"}},
            "response_format.json_schema.schema",
            "invalid_type",
        ),
    ],
)
def test_b11_a_format_that_is_none_is_refused(
    server: AgentServer, upstream: Upstream, response_format: object, param: str, code: str
) -> None:
    refused = server.post({**BODY, "response_format": response_format})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, code)
    assert upstream.requests == []
