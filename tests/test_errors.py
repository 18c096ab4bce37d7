"""What goes wrong is said in OpenAI's envelope, once, and nothing of it stays in the session."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.agent_server import MODEL, AgentServer, agent_server
from tests.loopback import free_port
from tests.upstream import Answer, Call, Upstream

HELLO = {"role": "user", "content": "hello"}
TOLD = "The model endpoint refused the request: Half an emoji: \ud83d"
TOOL = {"type": "function", "function": {"name": "ask_user"}}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The envelope's content, which always has its four keys, on a response that carries its ids."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["X-Session-ID"]
    assert response.headers["x-request-id"].startswith("req_")
    return error


@pytest.mark.parametrize(
    ("fields", "param", "code", "message"),
    [
        (
            {"model": None},
            "model",
            "invalid_type",
            "Invalid type for 'model': expected a string, but got null instead.",
        ),
        ({"messages": []}, "messages", "empty_array", "Invalid 'messages': empty array."),
        ({"messages": "hello"}, "messages", "invalid_type", "expected an array, but got a string"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", "invalid_value", "'robot'"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_type", "expected a string"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", "Missing required"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
            "'image_url'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "video"}]}]},
            "messages[0].content[1].type",
            "invalid_value",
            "'video'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].image_url",
            "missing_required_parameter",
            "Missing required",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
            "",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "unsupported_value", "'tool'"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value", "Expected a value <= 2, but got 3 instead."),
        ({"temperature": -1}, "temperature", "decimal_below_min_value", "Expected a value >= 0, but got -1 instead."),
        ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string instead."),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
        ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean, but got a string instead."),
        ({"n": 2, "store": True}, "n", "unsupported_value", "Only n=1"),
        ({"tool_choice": "auto"}, "tool_choice", None, "'tool_choice' is only allowed when 'tools' are specified."),
        ({"user": {"name": "Mina"}}, "user", "invalid_type", "expected a string, but got an object instead."),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", "tools[0].function"),
        (
            {"tools": [TOOL] * 129},
            "tools",
            "array_above_max_length",
            "128, but got an array with length 129",
        ),
        (
            {"tools": [TOOL, {"type": "function", "function": {"name": "a b"}}]},
            "tools[1].function.name",
            "invalid_value",
            "string does not match pattern",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length", "maximum length 4, but got an array with length 5"),
        ({"stop": 7}, "stop", "invalid_type", "expected a string, but got an integer instead."),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "integer_above_max_value", "Expected a value <= 100"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type", "expected a string, but got an integer instead."),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length", "got a string with length 513"),
        ({"metadata": {"x" * 65: ""}}, f"metadata.{'x' * 65}", "string_above_max_length", "maximum length 64"),
        ({"metadata": dict.fromkeys(map(str, range(17)), "")}, "metadata", "object_above_max_properties", "at most 16"),
        ({"session_id": "a b"}, "session_id", "invalid_value", "A session id is"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_with_it(
    server: AgentServer, upstream: Upstream, fields: dict[str, Any], param: str, code: str | None, message: str
) -> None:
    response = server.post({"model": MODEL, "messages": [HELLO], **fields})
    error = error_of(response)
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)
    assert message in error["message"]
    assert upstream.requests == []


def test_a_body_of_another_type_is_refused(server: AgentServer) -> None:
    response = httpx.post(f"{server.url}/v1/chat/completions", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_content_type")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(upstream: Upstream, upstream_url: str, announced: bool) -> None:
    body = json.dumps({"model": MODEL, "messages": [{**HELLO, "content": "x" * 2000}]}).encode()
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "max_request_bytes": 1000}
    with agent_server(**options) as server:
        response = httpx.post(
            f"{server.url}/v1/chat/completions",
            content=body if announced else iter([body[:900], body[900:]]),
            headers={"Content-Type": "application/json"},
        )
        assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")
        assert server.ask("hello")
    assert len(upstream.requests) == 1


def test_nulls_are_the_same_as_nothing(server: AgentServer, upstream: Upstream) -> None:
    nulls = dict.fromkeys(("temperature", "stop", "tools", "tool_choice", "n", "stream", "stream_options", "user"))
    assert server.post({"model": MODEL, "messages": [HELLO], **nulls}).status_code == 200
    assert upstream.last["temperature"] == 0.7


def test_unknown_fields_are_ignored(server: AgentServer, upstream: Upstream) -> None:
    assert server.post({"model": MODEL, "messages": [HELLO], "chat_template_kwargs": {"x": 1}}).status_code == 200
    assert "chat_template_kwargs" not in upstream.last


@pytest.mark.parametrize("content", [b"{", b"[]", b'"hello"', b"\xff", b""])
def test_a_body_that_is_no_json_object_is_refused(server: AgentServer, content: bytes) -> None:
    response = httpx.post(
        f"{server.url}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "JSON" in error_of(response)["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "\ud800"},
        {"messages": [{"role": "user", "content": "half an emoji: \ud83d"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "\ud800"}}]}]},
        {"stop": ["\udfff"]},
        {"metadata": {"\ud800": "x"}},
    ],
    ids=["model", "content", "part", "stop", "name"],
)
def test_half_a_surrogate_pair_is_refused(server: AgentServer, upstream: Upstream, fields: dict[str, Any]) -> None:
    body = json.dumps({"model": MODEL, "messages": [HELLO], **fields})
    response = httpx.post(
        f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "UTF-8" in error_of(response)["message"]
    assert upstream.requests == []


def test_an_error_can_be_said_whatever_the_model_endpoint_puts_in_it(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    refusal = Answer(status=400, error="Half an emoji: \ud83d")
    upstream.script(refusal, Answer(calls=[Call("get_stars", "{}")]), refusal)
    response = weather_server.post({"model": MODEL, "messages": [HELLO]})
    assert (response.status_code, error_of(response)["message"]) == (400, TOLD)
    stream = weather_server.post({"model": MODEL, "messages": [HELLO], "stream": True})
    *_, error, done, _ = stream.text.split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == TOLD
    assert done == "data: [DONE]"


def test_a_missing_model_is_asked_for(server: AgentServer) -> None:
    assert error_of(server.post({"messages": [HELLO]}))["message"] == "you must provide a model parameter"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/nothing", 404, "Invalid URL (GET /v1/nothing)"),
        ("PUT", "/v1/chat/completions", 405, "Not allowed to PUT on /v1/chat/completions."),
    ],
)
def test_a_url_that_is_none_is_said_to_be_none(
    server: AgentServer, method: str, path: str, status: int, message: str
) -> None:
    response = httpx.request(method, server.url + path)
    assert (response.status_code, error_of(response)["message"]) == (status, message)
    if status == 405:
        assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("answer", "status", "code", "message"),
    [
        (Answer(status=500, error="secret stack"), 502, "upstream_error", "status 500"),
        (Answer(status=401, error="bad key sk-secret"), 502, "upstream_error", "OLLAMA_API_KEY"),
        (Answer(status=404, error="no such model"), 502, "upstream_error", "OLLAMA_MODEL"),
        (Answer(status=400, error="llama2 does not support tools"), 400, None, "llama2 does not support tools"),
        (Answer(status=429, error="slow down", headers={"Retry-After": "7"}), 429, "upstream_rate_limited", "later"),
        (
            Answer(status=400, error="This model's maximum context length is 4096 tokens."),
            400,
            "context_length_exceeded",
            "longer than the model's context",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_endpoint_refuses_is_a_status_of_ours(
    server: AgentServer, upstream: Upstream, answer: Answer, status: int, code: str | None, message: str, stream: bool
) -> None:
    upstream.otherwise = answer
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": stream})
    error = error_of(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert message in error["message"]
    assert "secret" not in response.text
    if status == 429:
        assert response.headers["Retry-After"] == "7"


def test_a_model_endpoint_that_is_not_there_is_a_bad_gateway() -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    with agent_server(ollama_base_url=nobody, use_mcp_tools=False) as server:
        response = server.post({"model": MODEL, "messages": [HELLO], "stream": True})
    assert response.status_code == 502
    assert error_of(response)["message"] == "The model endpoint cannot be reached."


def test_an_answer_that_breaks_off_is_an_error_not_an_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Half an ans"], finish_reason=""))
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": True})
    *_, error, done, end = response.text.split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "The model's answer ended in the middle."
    assert (done, end) == ("data: [DONE]", "")
    upstream.script(Answer(["Half an ans"], finish_reason=""))
    assert server.post({"model": MODEL, "messages": [HELLO]}).status_code == 502


def test_the_sdk_raises_an_error_that_comes_in_mid_stream(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Half an ans"], finish_reason=""))
    with server.client() as client:
        stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True)
        with pytest.raises(openai.APIError, match="ended in the middle"):
            list(stream)


def test_a_failed_turn_leaves_the_session_as_it_was(weather_server: AgentServer, upstream: Upstream) -> None:
    call = Answer(calls=[Call("get_weather", '{"city": "Seoul"}')])
    for script in ([Answer(status=500)] * 2, [call, Answer(["Half"], finish_reason="")]):
        upstream.script(*script)
        assert weather_server.post({"model": MODEL, "messages": [HELLO], "session_id": "s"}).status_code == 502
    weather_server.ask("one", session="s")
    upstream.script(call, Answer(["Half"], finish_reason=""))
    weather_server.post({"model": MODEL, "messages": [HELLO], "session_id": "s"})
    weather_server.ask("two", session="s")
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["one", "You said: one", "two"]


def test_a_run_that_takes_too_long_is_ended(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Well, "], hold=True))
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, run_timeout=0.3) as server:
        response = server.post({"model": MODEL, "messages": [HELLO]})
    assert response.status_code == 504
    assert error_of(response)["code"] == "run_timeout"
    assert upstream.closed_early == 1


def test_the_sdk_retries_what_may_pass(server: AgentServer, upstream: Upstream) -> None:
    # Two tries of the agent's own client behind each of the SDK's.
    upstream.script(Answer(status=503), Answer(status=503))
    with server.client(retries=1, session="s") as client:
        completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert completion.choices[0].message.content == "You said: hello"
    assert [message["role"] for message in upstream.last["messages"]] == ["system", "user"]


def test_a9_a_run_that_has_had_effects_is_not_repeated_by_the_sdk(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]))
    upstream.otherwise = Answer(status=500)
    with weather_server.client(retries=2) as client:
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Weather?"}])
    assert (error.value.status_code, error.value.response.headers["x-should-retry"]) == (502, "false")
    asked = [request for request in upstream.requests if len(request["messages"]) == 2]
    assert len(asked) == 1, "the question came once"


def test_a_run_that_had_no_effects_may_be_repeated(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=500), Answer(status=500), Answer(["Here."]))
    with server.client(retries=1) as client:
        completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello?"}])
    assert completion.choices[0].message.content == "Here."
