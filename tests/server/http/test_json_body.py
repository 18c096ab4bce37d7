"""The JSON in a request's body: what is read, and as what."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.json_body import decoded, is_json
from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.envelope import error_of
from tests.support.upstream import Answer, Call, Upstream
from tools.json_size import has_more_values

HALVES = {
    "a lead": (rb'"a\ud83d"', "a\ufffd"),
    "a trail": (rb'"\udE00b"', "\ufffdb"),
    "two leads": (rb'"\uD83D\uD83D"', "\ufffd\ufffd"),
    "a lead before a pair": (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
    "the wrong way round": (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
    "before another escape": (rb'"\ud83d\n"', "\ufffd\n"),
    "a backslash before what looks like one": (rb'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
    "in bytes, as CESU-8": (b'"\xed\xa0\xbd"', "\ufffd"),
    "a pair in bytes": (b'"\xed\xa0\xbd\xed\xb8\x80"', "😀"),
    "a key": (rb'{"\ud83d": [1]}', {"\ufffd": [1]}),
}
NO_JSON = [
    b"",
    b"{",
    b"{'a': 1}",
    b"\xff",
    b'"\xff\\ud83d"',
    b"NaN",
    b"[Infinity]",
    b'{"\\ud83d": NaN}',
    b"[01]",
    b"[" * 300,
]
WHERE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "\ud83d"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}]},
    {"messages": [HELLO, {"role": "assistant", "content": "\ud83d"}, HELLO]},
    {"messages": [{**HELLO, "name": "\ud83d"}]},
    {"messages": [{"role": "user", "content": "x", "\ud83d": "\ud83d"}]},
    {"tools": [{"type": "function", "function": {"name": "f", "description": "\ud83d", "parameters": {"\ud83d": 1}}}]},
    {"stop": ["\udfff"]},
    {"metadata": {"\ud800": "\ud800"}},
    {"user": "\ud83d"},
    {"unknown": ["\ud83d"]},
]


@pytest.mark.parametrize(("body", "value"), HALVES.values(), ids=HALVES)
def test_c6_half_a_character_is_read_as_the_sign_for_one(body: bytes, value: object) -> None:
    assert decoded(body) == value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_c6_all_else_is_read_as_it_is(value: object) -> None:
    for body in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode()):
        assert decoded(body) == value
        assert decoded(b"\xef\xbb\xbf" + body) == value


@given(st.lists(st.text(st.characters() | st.characters(categories=["Cs"]))))
def test_c6_whatever_is_read_can_be_sent_on(texts: list[str]) -> None:
    read = decoded(json.dumps(texts).encode())
    assert [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts] == read


@pytest.mark.parametrize("body", NO_JSON)
def test_c6_what_is_no_json_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(body)


@pytest.mark.parametrize("fields", WHERE)
def test_c6_wherever_it_stands_the_request_is_answered(
    server: AgentServer, upstream: Upstream, fields: dict[str, Any]
) -> None:
    for _ in range(2):  # the second time it is in the history
        response = post(server, json.dumps({"model": MODEL, "messages": [HELLO], "session_id": "s", **fields}).encode())
        assert response.status_code == 200, response.text
    assert "\ud83d" not in str(upstream.requests)
    assert httpx.get(f"{server.url}/v1/sessions/s/messages").status_code == 200


def test_c6_a_call_with_half_a_character_stays_a_call(server: AgentServer, upstream: Upstream) -> None:
    call = {"id": "\ud83d", "type": "function", "function": {"name": "f", "arguments": '{"a": "\ud83d"}'}}
    messages = [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "\ud83d", "content": "\ud83d"},
    ]
    assert post(server, json.dumps({"model": MODEL, "messages": messages}).encode()).status_code == 200
    _, _, calling, result = upstream.last["messages"]
    assert json.loads(calling["tool_calls"][0]["function"]["arguments"]) == {"a": "\ufffd"}
    assert (result["tool_call_id"], result["content"]) == ("\ufffd", "\ufffd")


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_c6_the_other_doors_read_it_too(server: AgentServer, upstream: Upstream, endpoint: str) -> None:
    body = {"input": {"messages": [{"type": "human", "content": "a\ud83d"}]}}
    answered = httpx.post(
        f"{server.url}/agent/{endpoint}", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answered.status_code == 200
    assert upstream.last["messages"][-1]["content"] == "a\ufffd"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "place",
    [
        '"x": %s',
        '"temperature": %s',
        '"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [%s]}}}]',
    ],
)
def test_c6_what_json_cannot_say_is_refused(server: AgentServer, upstream: Upstream, number: str, place: str) -> None:
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "x"}}], {place % number}}}'
    refused = post(server, body.encode())
    assert (refused.status_code, error_of(refused)["type"]) == (400, "invalid_request_error")
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("APPLICATION/JSON ;charset=UTF-8", True),
        ("application/vnd.api+json", True),
        ("application/problem+json;x=y", True),
        ("text/json", False),
        ("text/plain", False),
        ("text/plain; charset=json", False),
        ("text/plain; application/json", False),
        ("multipart/form-data; boundary=application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("application/x-json", False),
        ("application/jsonp", False),
        ("json", False),
        ("", False),
    ],
)
def test_c14_a_body_is_read_if_its_type_is_json_and_else_415(server: AgentServer, kind: str, read: bool) -> None:
    assert is_json(kind) == read
    bodies = {
        "v1/chat/completions": {"model": MODEL, "messages": [HELLO]},
        "agent/invoke": {"input": {"messages": [HELLO]}},
    }
    for path, body in bodies.items():
        headers = {"Content-Type": kind} if kind else {}
        response = httpx.post(f"{server.url}/{path}", content=json.dumps(body), headers=headers)
        assert response.status_code == (200 if read else 415), (path, response.text)
        if not read:
            assert error_of(response)["code"] == "unsupported_content_type"


def test_c6_a_model_s_call_is_stored_beside_it(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("f", '{"a": 1}')]))
    tool = {"type": "function", "function": {"name": "f", "description": "\ud83d"}}
    body = {"model": MODEL, "messages": [{**HELLO, "content": "\ud83d"}], "tools": [tool]}
    answer = post(server, json.dumps(body).encode()).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"


def post(server: AgentServer, body: bytes) -> httpx.Response:
    url = f"{server.url}/v1/chat/completions"
    return httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=30)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def count(value: Any) -> int:
    """Count a JSON value and all that are in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


@given(VALUES, st.booleans(), st.integers(1, 30))
def test_more_values_than_allowed_are_noticed_without_parsing(value: Any, in_ascii: bool, most: int) -> None:
    body = json.dumps(value, ensure_ascii=in_ascii).encode(errors="surrogatepass")
    if has_more_values(body, most):
        assert count(value) > most / 2, "each value has a comma before it, or a bracket around it"
    else:
        assert count(value) <= 2 * most + 1


@given(st.text(alphabet='\\",[{}]:a'))
def test_what_is_in_a_text_does_not_count(text: str) -> None:
    assert not has_more_values(json.dumps([text, {text: text}]).encode(), 10)
