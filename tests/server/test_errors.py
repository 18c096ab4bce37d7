"""What goes wrong is said in OpenAI's envelope, once, and nothing of it stays in the session."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any

import httpx
import openai
import pytest

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.envelope import error_of
from tests.support.upstream import Answer, Call, Json, Upstream

TOLD = "The model endpoint refused the request: Half an emoji: \ufffd"
CHAT = "/v1/chat/completions"
NOBODY = "http://127.0.0.1:1/v1"
CALLING = {
    "role": "assistant",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "x"}


def tool(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the contract's table of errors: what is asked of which server, and what it answers."""

    message: str
    status: int = 400
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    fields: Mapping[str, Any | EllipsisType] = field(default_factory=dict)
    """What the body has beside a model and a message, or in their place; `...` is a field that it lacks."""
    content: bytes | None = None
    """The body, where it is none of fields."""
    method: str = "POST"
    path: str = CHAT
    sent: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    upstream: Answer | None = None
    repeatable: bool = True
    """Whether the SDKs may send the request again."""

    def ask(self, server: AgentServer) -> httpx.Response:
        """Return the answer to the row's request."""
        body = {"model": MODEL, "messages": [HELLO], **self.fields}
        content = json.dumps({name: value for name, value in body.items() if value is not ...}).encode()
        return httpx.request(
            self.method,
            server.url + self.path,
            content=content if self.content is None else self.content,
            headers={"Content-Type": "application/json", **self.sent},
            timeout=30,
        )


UNPARSED = "We could not parse the JSON body of your request. It must be a JSON object, in UTF-8."
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
FAILING = "The model endpoint answered with status"

TABLE = {
    "malformed_json": Row(content=b'{"model": ', message=UNPARSED),
    "not_an_object": Row(content=b"[]", message=UNPARSED),
    "unsupported_content_type": Row(
        sent={"Content-Type": "text/plain"},
        status=415,
        code="unsupported_content_type",
        message="Unsupported content type: 'text/plain'. This API takes 'application/json'.",
    ),
    "missing_model": Row(fields={"model": ...}, message="you must provide a model parameter"),
    "unknown_model": Row(
        fields={"model": "gpt-9"},
        status=404,
        code="model_not_found",
        message="The model `gpt-9` does not exist or you do not have access to it. There is: test-model. "
        "MODEL_ALIASES gives models other names.",
    ),
    "missing_messages": Row(
        fields={"messages": ...},
        param="messages",
        code="missing_required_parameter",
        message="Missing required parameter: 'messages'.",
    ),
    "empty_messages": Row(
        fields={"messages": []},
        param="messages",
        code="empty_array",
        message="Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
        "instead.",
    ),
    "bad_role": Row(
        fields={"messages": [{"role": "robot", "content": "x"}]},
        param="messages[0].role",
        code="invalid_value",
        message="Invalid value: 'robot'. Supported values are: "
        "'system', 'developer', 'user', 'assistant', 'tool', and 'function'.",
    ),
    "wrong_type": Row(
        fields={"temperature": "hot"},
        param="temperature",
        code="invalid_type",
        message="Invalid type for 'temperature': expected a decimal, but got a string instead.",
    ),
    "decimal_above_the_range": Row(
        fields={"temperature": 3},
        param="temperature",
        code="decimal_above_max_value",
        message="Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
    ),
    "decimal_below_the_range": Row(
        fields={"temperature": -0.5},
        param="temperature",
        code="decimal_below_min_value",
        message="Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -0.5 instead.",
    ),
    "integer_below_the_range": Row(
        fields={"max_tokens": 0},
        param="max_tokens",
        code="integer_below_min_value",
        message="Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    ),
    "too_many_tools": Row(
        fields={"tools": [tool("f")] * 163},
        param="tools",
        code="array_above_max_length",
        message="Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with "
        "length 163 instead.",
    ),
    "too_many_stops": Row(
        fields={"stop": ["a"] * 5},
        param="stop",
        code="array_above_max_length",
        message="Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with "
        "length 5 instead.",
    ),
    "metadata_of_too_many_pairs": Row(
        fields={"metadata": {str(number): "" for number in range(17)}},
        param="metadata",
        code="object_above_max_properties",
        message="Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an "
        "object with 17 properties instead.",
    ),
    "metadata_with_a_long_value": Row(
        fields={"metadata": {"a": "x" * 513}},
        param="metadata.a",
        code="string_above_max_length",
        message="Invalid 'metadata.a': string too long. Expected a string with maximum length 512, but got a string "
        "with length 513 instead.",
    ),
    "bad_function_name": Row(
        fields={"tools": [tool("get weather")]},
        param="tools[0].function.name",
        code="invalid_value",
        message="Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the "
        "pattern '^[a-zA-Z0-9_-]{1,64}$'.",
    ),
    "orphan_tool_message": Row(
        fields={"messages": [HELLO, {"role": "assistant", "content": "Hi."}, RESULT]},
        param="messages.[2].role",
        message="Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
        "'tool_calls'.",
    ),
    "unanswered_tool_calls": Row(
        fields={"messages": [HELLO, {"role": "assistant", "content": "Hi."}, CALLING, HELLO]},
        param="messages.[3].role",
        message="An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        "'tool_call_id'. The following tool_call_ids did not have response messages: call_1",
    ),
    "stream_options_without_stream": Row(
        fields={"stream_options": {"include_usage": True}},
        param="stream_options",
        message="The 'stream_options' parameter is only allowed when 'stream' is enabled.",
    ),
    "tool_choice_without_tools": Row(
        fields={"tool_choice": "required"},
        param="tool_choice",
        message="Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
    ),
    "unsupported_feature": Row(
        fields={"logprobs": True},
        param="logprobs",
        code="unsupported_parameter",
        message="'logprobs' is not supported by this server.",
    ),
    "context_too_long": Row(
        upstream=Answer(status=400, error="This model's maximum context length is 4096 tokens."),
        param="messages",
        code="context_length_exceeded",
        message="The conversation is longer than the model's context: This model's maximum context length is 4096 "
        "tokens. About 100 tokens were sent. Start a new session or send less.",
    ),
    "filtered_prompt": Row(
        upstream=Answer(status=400, error="The response was filtered.", code="content_filter"),
        param="prompt",
        code="content_filter",
        message="The model endpoint's content filter refused the prompt.",
    ),
    "no_key": Row(settings={"api_keys": "key"}, status=401, headers={"WWW-Authenticate": "Bearer"}, message=NO_KEY),
    "wrong_key": Row(
        settings={"api_keys": "key"},
        sent={"Authorization": "Bearer sk-wrong"},
        status=401,
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
        message="Incorrect API key provided.",
    ),
    "session_that_is_not_there": Row(
        method="GET",
        path="/v1/sessions/s",
        status=404,
        code="session_not_found",
        message="There is no session 's'.",
    ),
    "method_not_allowed": Row(
        method="PUT",
        status=405,
        code="method_not_supported",
        headers={"Allow": "POST"},
        message="Not allowed to PUT on /v1/chat/completions. (HINT: use POST.)",
    ),
    "unknown_url": Row(path="/v1/foo", status=404, message="Invalid URL (POST /v1/foo)"),
    "body_too_large": Row(
        settings={"max_request_bytes": 50},
        status=413,
        code="request_too_large",
        message="The request is larger than 50 bytes.",
    ),
    "upstream_rate_limit": Row(
        upstream=Answer(status=429, error="slow down", headers={"Retry-After": "7"}),
        status=429,
        type="server_error",
        code="upstream_rate_limited",
        headers={"Retry-After": "7"},
        message="The model endpoint is rate limited. Try again later.",
    ),
    "upstream_refuses_our_key": Row(
        upstream=Answer(status=401, error="bad key sk-secret"),
        status=502,
        type="server_error",
        code="upstream_error",
        repeatable=False,
        message=f"{FAILING} 401. Its key may be wrong; see OLLAMA_API_KEY.",
    ),
    "upstream_lacks_our_model": Row(
        upstream=Answer(status=404, error="no such model"),
        status=502,
        type="server_error",
        code="upstream_error",
        repeatable=False,
        message="The model endpoint does not have the model: no such model. See OLLAMA_MODEL.",
    ),
    "upstream_at_another_address": Row(
        upstream=Answer(status=404, error="Not Found"),
        status=502,
        type="server_error",
        code="upstream_error",
        repeatable=False,
        message=f"{FAILING} 404: Not Found. OLLAMA_BASE_URL may name another address than that of its API, which "
        "mostly ends in /v1.",
    ),
    "upstream_refuses_the_request": Row(
        upstream=Answer(status=400, error="temperature is too hot"),
        message="The model endpoint refused the request: temperature is too hot",
    ),
    "upstream_finds_it_unprocessable": Row(
        upstream=Answer(status=422, error="too odd"),
        message="The model endpoint refused the request: too odd",
    ),
    "upstream_finds_it_too_large": Row(
        upstream=Answer(status=413, error="too large"),
        status=413,
        code="request_too_large",
        message="The request is too large for the model endpoint: too large",
    ),
    "upstream_wants_money": Row(
        upstream=Answer(status=402, error="Add credits"),
        status=402,
        type="server_error",
        code="insufficient_quota",
        repeatable=False,
        message="The account at the model endpoint has no credit left: Add credits",
    ),
    "upstream_takes_no_images": Row(
        upstream=Answer(status=500, error="image input is not supported - hint: you may need to provide the mmproj"),
        param="messages",
        code="unsupported_value",
        message="The model takes no images.",
    ),
    "upstream_fails": Row(
        upstream=Answer(status=500, error="secret stack"),
        status=502,
        type="server_error",
        code="upstream_error",
        message=f"{FAILING} 500.",
    ),
    "upstream_is_away": Row(
        settings={"ollama_base_url": NOBODY},
        status=502,
        type="server_error",
        code="upstream_error",
        message="The model endpoint cannot be reached. Is it running? See OLLAMA_BASE_URL.",
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_a4_every_error_is_told_in_openai_s_envelope(upstream: Upstream, upstream_url: str, row: Row) -> None:
    if row.upstream:
        upstream.otherwise = row.upstream
    with agent_server(**{"ollama_base_url": upstream_url, "use_mcp_tools": False, **row.settings}) as server:
        response = row.ask(server)
    error = {"message": row.message, "type": row.type, "param": row.param, "code": row.code}
    assert (response.status_code, error_of(response)) == (row.status, error)
    assert response.headers["Content-Type"] == "application/json"
    assert {name: response.headers.get(name) for name in row.headers} == row.headers
    assert ("x-should-retry" not in response.headers) is row.repeatable
    assert row.upstream or not upstream.requests


@pytest.mark.parametrize("stream", [False, True])
def test_a4_a_defect_of_ours_is_told_in_openai_s_envelope(server: AgentServer, stream: bool) -> None:
    with sqlite3.connect("data/chat-agent.db") as database:
        database.execute("DROP TABLE turns")
    database.close()
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": stream})
    assert (response.status_code, response.headers["x-should-retry"]) == (500, "false")
    assert error_of(response) == {
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
        "param": None,
        "code": "agent_error",
    }


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


def test_a9_a_run_that_takes_too_long_is_ended_and_not_repeated(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Well, "], hold=True))
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, run_timeout=0.3) as server:
        response = server.post({"model": MODEL, "messages": [HELLO]})
    assert (response.status_code, response.headers["x-should-retry"]) == (504, "false")
    assert error_of(response)["code"] == "run_timeout"
    assert upstream.closed_early == 1


def test_the_sdk_retries_what_may_pass(server: AgentServer, upstream: Upstream) -> None:
    # Two tries of the agent's own client behind each of the SDK's.
    upstream.script(Answer(status=503), Answer(status=503))
    with server.client(retries=1, session="s") as client:
        completion = client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert completion.choices[0].message.content == "You said: hello"
    assert [message["role"] for message in upstream.last["messages"]] == ["system", "user"]


def test_a9_a_run_that_has_had_effects_is_not_repeated_by_the_sdk(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]))
    upstream.otherwise = Answer(status=500)
    with weather_server.client(retries=2) as client:
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert (error.value.status_code, error.value.response.headers["x-should-retry"]) == (502, "false")
    asked = [request for request in upstream.requests if len(request["messages"]) == 2]
    assert len(asked) == 1, "the question came once"


def test_a_run_that_had_no_effects_may_be_repeated(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=500), Answer(status=500), Answer(["Here."]))
    with server.client(retries=1) as client:
        completion = client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert completion.choices[0].message.content == "Here."
