"""docs/contract.md, section B: what a request may say. Its tools are in test_client_tools.py, and how each parameter is
treated (B12) in test_compatibility.py."""

import json
import socket
from typing import Any

import httpx
import pytest

from server.chat.request import ChatRequest
from server.messages.shapes import Message
from server.settings import ServerSettings
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.client_tools import answer, calling
from tests.support.envelope import error_of
from tests.support.upstream import Answer, Json, Upstream

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
NAN = b'{"model": "test-model", "messages": [{"role": "user", "content": "x"}], "x": NaN}'
TEXT = {"type": "text", "text": "What is this?"}


def refused(server: AgentServer, fields: Json) -> tuple[str | None, str | None]:
    """The parameter and the code that a request is refused with."""
    response = server.post({"model": MODEL, "messages": [HELLO], **fields})
    assert response.status_code == 400, response.text
    error = error_of(response)
    return error["param"], error["code"]


def said_by(role: str, content: Any) -> Json:
    return {"messages": [{"role": role, "content": content}]}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "invalid_type"),
        ({"model": 7}, "model", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": "hello"}, "messages", "invalid_type"),
        ({"messages": ["hello"]}, "messages[0]", "invalid_type"),
    ],
)
def test_b1_a_model_and_messages_are_needed(
    server: AgentServer, upstream: Upstream, fields: Json, param: str, code: str
) -> None:
    assert refused(server, fields) == (param, code)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"[]", b'"hello"', b"\xff", b"", b"null"),
        NAN,
    ],
)
def test_b2_a_body_that_is_no_json_object_is_refused(server: AgentServer, content: bytes) -> None:
    response = httpx.post(
        f"{server.url}/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "JSON" in error_of(response)["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_b2_a_body_that_is_too_large_is_refused(upstream: Upstream, upstream_url: str, announced: bool) -> None:
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
    assert ServerSettings.model_fields["max_request_bytes"].default == 20_000_000


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("temperature", -0.1, "decimal_below_min_value"),
        ("top_p", 1.1, "decimal_above_max_value"),
        ("top_p", -1, "decimal_below_min_value"),
        ("presence_penalty", 2.1, "decimal_above_max_value"),
        ("presence_penalty", -2.1, "decimal_below_min_value"),
        ("frequency_penalty", 2.1, "decimal_above_max_value"),
        ("frequency_penalty", -2.1, "decimal_below_min_value"),
        ("n", 0, "integer_below_min_value"),
        ("n", 129, "integer_above_max_value"),
        ("n", 1.5, "invalid_type"),
        ("max_tokens", 0, "integer_below_min_value"),
        ("max_completion_tokens", 0, "integer_below_min_value"),
        ("seed", "seven", "invalid_type"),
        ("messages", [], "empty_array"),
        ("stop", 7, "invalid_type"),
        ("stream", "yes", "invalid_type"),
        ("logit_bias.1", 101, "integer_above_max_value"),
        ("logit_bias.1", -101, "integer_below_min_value"),
        ("logit_bias.1", 0.5, "invalid_type"),
        ("metadata.a", 1, "invalid_type"),
        (f"metadata.{'x' * 65}", "", "string_above_max_length"),
        ("top_logprobs", 21, "unsupported_parameter"),
        ("session_id", "a b", "invalid_value"),
    ],
)
def test_b3_what_is_out_of_bounds_is_refused(
    server: AgentServer, upstream: Upstream, field: str, value: Any, code: str
) -> None:
    name, _, key = field.partition(".")
    assert refused(server, {name: {key: value} if key else value}) == (field, code)
    assert upstream.requests == []


def test_b3_the_bounds_themselves_are_taken(server: AgentServer) -> None:
    taken: list[Json] = [
        {"temperature": 0, "top_p": 0, "presence_penalty": -2, "frequency_penalty": -2, "max_completion_tokens": 1},
        {"temperature": 2, "top_p": 1, "presence_penalty": 2, "frequency_penalty": 2, "max_tokens": 1},
        {"stop": "END", "logit_bias": {"1": 100, "2": -100}},
        {"stop": ["a", "b", "c", "d"], "metadata": {f"{n:064}": "x" * 512 for n in range(16)}},
        {"safety_identifier": "x" * 128, "n": 1},
    ]
    for fields in taken:
        assert server.post({"model": MODEL, "messages": [HELLO], **fields}).status_code == 200, fields


def test_b4_null_is_the_same_as_nothing(server: AgentServer, upstream: Upstream) -> None:
    assert server.post({"model": MODEL, "messages": [HELLO]}).status_code == 200
    plain = upstream.last
    optional = {name for name, field in ChatRequest.model_fields.items() if not field.is_required()}
    body: Json = {"model": MODEL, "messages": [HELLO], **dict.fromkeys(optional | {"verbosity", "prediction"})}
    assert server.post(body).status_code == 200
    assert upstream.last == plain


def test_b4_null_is_the_same_as_nothing_in_messages_tools_and_options(server: AgentServer, upstream: Upstream) -> None:
    nulls = dict.fromkeys(name for name, field in Message.model_fields.items() if not field.is_required())
    said = {"role": "assistant", "refusal": None, "audio": None, "function_call": None}
    messages = [{**nulls, **HELLO}, {**nulls, **said, "content": "Hi."}, {**nulls, **said}, {**nulls, **HELLO}]
    tool = {"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": None}}
    options = {"include_usage": None, "include_tool_events": None, "include_obfuscation": None}
    body = {"model": MODEL, "messages": messages, "tools": [tool], "stream": True, "stream_options": options}
    assert server.post(body).status_code == 200
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["hello", "Hi.", "hello"]


def test_b5_every_role_has_its_place(server: AgentServer, upstream: Upstream) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {**HELLO, "name": "Mina"},
        calling("a"),
        answer("a"),
        {"role": "assistant", "content": "Blue."},
        HELLO,
    ]
    assert server.post({"model": MODEL, "messages": messages}).status_code == 200
    system, *others = upstream.last["messages"]
    assert system["content"].endswith("\n\nBe brief.\n\nBe kind.")
    assert [message["role"] for message in others] == ["user", "assistant", "tool", "assistant", "user"]
    assert others[0]["name"] == "Mina"


@pytest.mark.parametrize(("role", "code"), [("robot", "invalid_value"), ("function", "unsupported_value")])
def test_b5_a_role_that_is_none_is_named(server: AgentServer, role: str, code: str) -> None:
    messages = [HELLO, {"role": role, "name": "f", "content": "x"}]
    assert refused(server, {"messages": messages}) == ("messages[1].role", code)


def test_b6_what_a_user_shows_is_handed_on_and_never_fetched(server: AgentServer, upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        there = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{host.getsockname()[1]}/cat.png"}}
        file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
        known = {"type": "file", "file": {"file_id": "file-1"}}
        sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
        parts = [TEXT, IMAGE, there, file, known, sound]
        upstream.script(Answer(["A cat."], usage=None))  # so that its length is estimated
        assert server.post({"model": MODEL, **said_by("user", parts)}).status_code == 200
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()
    assert upstream.last["messages"][-1]["content"] == parts


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_b6_texts_are_one_text_for_every_endpoint(server: AgentServer, upstream: Upstream, role: str) -> None:
    said = {"role": role, "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
    messages = [HELLO, calling("a"), {**said, "tool_call_id": "a"}] if role == "tool" else [HELLO, said]
    assert server.post({"model": MODEL, "messages": messages}).status_code == 200
    contents = [message["content"] for message in upstream.last["messages"]]
    assert any(content and content.endswith("one\ntwo") for content in contents)


def test_b6_a_tool_may_show_an_image(server: AgentServer, upstream: Upstream) -> None:
    shown = {"role": "tool", "tool_call_id": "a", "content": [TEXT, IMAGE]}
    messages = [HELLO, calling("a"), shown]
    assert server.post({"model": MODEL, "messages": messages, "session_id": "s"}).status_code == 200
    *_, result, images = upstream.last["messages"]
    assert (result["role"], result["content"], images["content"][-1]) == ("tool", TEXT["text"], IMAGE)
    assert httpx.get(f"{server.url}/v1/sessions/s/messages").json()["data"][2] == shown


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "input_audio.data"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "file.file_data"),
        ({"type": "file", "file": {"file_data": "file:///etc/passwd"}}, "file.file_data"),
        ({"type": "text"}, "text"),
    ],
)
def test_b6_a_part_without_its_content_is_refused(server: AgentServer, part: Json, param: str) -> None:
    error = server.post({"model": MODEL, **said_by("user", [TEXT, part, IMAGE])}).json()["error"]
    assert error["param"] == f"messages[0].content[1].{param}"


def test_b6_what_else_a_part_says_goes_nowhere(server: AgentServer, upstream: Upstream) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    said = {"data": "UklGRg==", "format": "wav", "url": "file:///x", "rate": 10**30}
    strange = {"type": "input_audio", "input_audio": said}
    assert server.post({"model": MODEL, **said_by("user", [TEXT, strange])}).status_code == 200
    assert upstream.last["messages"][-1]["content"] == [TEXT, sound]


def test_b6_an_assistant_may_have_refused(server: AgentServer, upstream: Upstream) -> None:
    said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]}
    assert server.post({"model": MODEL, "messages": [HELLO, said, HELLO]}).status_code == 200
    assert upstream.last["messages"][2]["content"] == "I will not."


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        (said_by("user", 7), "content", "invalid_type"),
        (said_by("user", None), "content", "missing_required_parameter"),
        (said_by("user", [TEXT, {"type": "video"}]), "content[1].type", "invalid_value"),
        (said_by("user", [{"type": "refusal", "refusal": "x"}]), "content[0].type", "invalid_value"),
        (said_by("system", [IMAGE]), "content[0].type", "invalid_value"),
        (said_by("developer", [IMAGE]), "content[0].type", "invalid_value"),
        (said_by("assistant", [IMAGE]), "content[0].type", "invalid_value"),
        (said_by("tool", "x"), "tool_call_id", "missing_required_parameter"),
        (said_by("user", [{"type": "image_url"}]), "content[0].image_url", "missing_required_parameter"),
        *(
            (said_by("user", [{"type": "image_url", "image_url": image}]), "content[0].image_url", "invalid_image_url")
            for image in ({"url": "file:///etc/passwd"}, {"url": "cat.png"}, "cat.png")
        ),
        (said_by("user", [{"type": "image_url", "image_url": {"url": 7}}]), "content[0].image_url.url", "invalid_type"),
    ],
)
def test_b6_what_a_message_cannot_hold_is_named(
    server: AgentServer, upstream: Upstream, fields: Json, param: str, code: str
) -> None:
    assert refused(server, fields) == (f"messages[0].{param}", code)
    assert upstream.requests == []


@pytest.mark.parametrize("stream", [None, False])
def test_b10_without_a_stream_it_has_no_options(server: AgentServer, stream: bool | None) -> None:
    fields = {"stream": stream, "stream_options": {"include_usage": True}}
    assert refused(server, fields) == ("stream_options", None)
    whole = server.post({"model": MODEL, "messages": [HELLO], "stream": stream})
    assert whole.json()["object"] == "chat.completion"


def test_b13_unknown_fields_are_ignored(server: AgentServer, upstream: Upstream) -> None:
    strange = {"chat_template_kwargs": {"x": 1}, "thread_id": 7, "providerOptions": {"a": {}}, "": None}
    assert server.post({"model": MODEL, "messages": [HELLO], **strange}).status_code == 200
    assert not strange.keys() & upstream.last.keys()


def test_b14_a_user_is_a_string(server: AgentServer, upstream: Upstream) -> None:
    assert refused(server, {"user": {"name": "Mina", "id": "7"}}) == ("user", "invalid_type")
    server.ask("hello", user="mina")
    assert upstream.last["user"] == "mina"


@pytest.mark.parametrize("store", [True, False])
def test_b15_an_answer_that_was_begun_is_continued(server: AgentServer, upstream: Upstream, store: bool) -> None:
    messages = [HELLO, {"role": "assistant", "content": "The sky is"}]
    upstream.otherwise = Answer([" blue."])
    for stream in (False, True):
        response = server.post({"model": MODEL, "messages": messages, "store": store, "stream": stream})
        assert response.status_code == 200
        assert " blue." in response.text
        assert upstream.last["messages"][1:] == messages


def test_b16_the_newer_name_of_the_bound_wins(server: AgentServer, upstream: Upstream) -> None:
    for fields in ({"max_completion_tokens": 20, "max_tokens": 10}, {"max_tokens": 20}):
        assert server.post({"model": MODEL, "messages": [HELLO], **fields}).status_code == 200
        assert upstream.last["max_tokens"] == 20, "the name that endpoints other than OpenAI know"
        assert "max_completion_tokens" not in upstream.last
