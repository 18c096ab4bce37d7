"""Requests that are made to cost: the server answers them in a moment, and everybody else meanwhile."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.agent_server import CERTIFICATES, MODEL, AgentServer
from tests.support.command import Serving, serving, without_tools
from tests.support.health import responsive
from tests.support.upstream import Answer, Upstream

CALLED = [{"id": f"c{at}", "type": "function", "function": {"name": "t", "arguments": "{}"}} for at in range(40_000)]
RESULTS = [{"role": "tool", "tool_call_id": f"c{at}", "content": ""} for at in range(300_000)]


def chat(*messages: object, **fields: object) -> bytes:
    return json.dumps({"model": MODEL, "messages": messages, **fields}).encode()


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def asking(calls: Any) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": calls}


# What is sent, and the error's status and code.
COSTLY: dict[str, tuple[bytes, int, str | None]] = {
    "40,000 calls, results in reverse": (chat(asking(CALLED), *RESULTS[:40_000][::-1]), 400, "too_many_values"),
    "8,000 calls, 1,900 results in reverse": (chat(asking(CALLED[:8_000]), *RESULTS[:1_900][::-1]), 400, None),
    "300,000 results": (chat(*RESULTS), 400, "too_many_values"),
    "20,000 results": (chat(*RESULTS[:20_000]), 400, "array_above_max_length"),
    "400,000 messages": (chat(*[user("")] * 400_000), 400, "too_many_values"),
    "2,001 messages": (chat(*[user("")] * 2_001), 400, "array_above_max_length"),
    "30,000 messages that are none": (chat(*[{"role": 1}] * 30_000), 400, "array_above_max_length"),
    "600,000 parts": (chat(user([{"type": "text", "text": ""}] * 600_000)), 400, "too_many_values"),
    "a million biases": (chat(user("x"), logit_bias={str(at): 1 for at in range(1_000_000)}), 400, "too_many_values"),
    "a million unknown fields": (chat(user("x"), **{f"x{at}": 1 for at in range(1_000_000)}), 400, "too_many_values"),
    "a million lists": (b"[" + b",".join([b"[]"] * 6_000_000) + b"]", 400, "too_many_values"),
    "a text of 19 MB of commas and one that is none": (b'{"model":"' + b"," * 19_000_000, 400, None),
    "19 MB of escapes and half a character": (b'"' + rb"\n" * 9_000_000 + rb'\ud83d"', 400, None),
    "19 MB of halves": (b'"' + rb"\ud83d" * 3_000_000 + b'"', 400, None),
    "a model's name of 10 MB": (json.dumps({"model": "m" * 10_000_000, "messages": [user("x")]}).encode(), 404, None),
    "an id of 5,000,000 characters": (
        chat(user("x"), {"role": "tool", "tool_call_id": "c" * 5_000_000, "content": ""}),
        400,
        None,
    ),
    "a call of that id": (
        chat(asking([{"id": "c" * 5_000_000, "type": "function", "function": {"name": "t"}}]), user("x")),
        400,
        None,
    ),
    "a key of 5,000,000 characters": (chat(user("x"), logit_bias={"k" * 5_000_000: 1}), 400, None),
    "a role of 5,000,000 characters": (chat({"role": "r" * 5_000_000, "content": "x"}), 400, None),
    "nested 10,000 levels": (b'{"model":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, None),
}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, AgentServer]]:
    database = f"sqlite:///{tmp_path_factory.mktemp('attacked') / 'agent.db'}"
    nobody = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1"}
    with serving("serve", **nobody, CHECKPOINT_URL=database, USE_MCP_TOOLS="false") as (command, server):
        yield command, server


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_request_is_refused_in_a_moment(attacked: tuple[Serving, AgentServer], kind: str) -> None:
    command, server = attacked
    body, status, code = COSTLY[kind]
    logged = len(command.output)
    with responsive(server):
        refused = httpx.post(
            f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}, timeout=60
        )
    error = refused.json()["error"]
    assert refused.status_code == status, error
    assert code in (None, error["code"])
    assert len(refused.content) < 2_000, "what was sent does not come back"
    log = "\n".join(line for line in command.output[logged:].split("\n") if "/health" not in line)
    assert len(log) < 2_000, "nor into the log"
    assert "Traceback" not in log


def test_the_first_request_of_a_kind_does_not_hold_the_others_up() -> None:
    """FastAPI makes routes and the API's document when the first request for them comes, and pydantic builds models."""
    nobody = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1"}
    with serving("serve", **nobody, USE_MCP_TOOLS="false") as (_, server):
        assert httpx.get(f"{server.url}/health", verify=CERTIFICATES).is_success
        for path in ("/openapi.json", "/v1/sessions", "/v1/responses/r", "/v1/conversations/c", "/agent/playground/"):
            with responsive(server, within=0.05):
                httpx.get(server.url + path, timeout=30, verify=CERTIFICATES)
        for path, said in (("chat/completions", {"messages": [user("x")]}), ("responses", {"input": "x"})):
            with responsive(server, within=0.05):
                httpx.post(f"{server.url}/v1/{path}", json={"model": MODEL, **said}, timeout=30, verify=CERTIFICATES)


@pytest.mark.parametrize("path", ["/agent/invoke", "/agent/stream", "/agent/stream_log"])
def test_langserve_s_doors_have_the_same_bounds(attacked: tuple[Serving, AgentServer], path: str) -> None:
    _, server = attacked
    for content, code in (([user("")] * 100_000, "too_many_values"), ([user("")] * 2_001, "array_above_max_length")):
        with responsive(server):
            refused = httpx.post(server.url + path, json={"input": {"messages": content}}, timeout=60)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)


def test_arguments_that_are_nested_deep_are_taken_as_text(server: AgentServer, upstream: Upstream) -> None:
    """Checkpoints take no more than about 250 levels."""
    for levels in (99, 251, 450, 5_000):
        call = {"id": "c", "type": "function", "function": {"name": "t", "arguments": nested(levels)}}
        result = {"role": "tool", "tool_call_id": "c", "content": "r"}
        upstream.script(Answer(["ok"]), Answer(["again"]))
        session = {"X-Session-ID": f"deep-{levels}"}
        body = {"model": MODEL, "messages": [user("x"), asking([call]), result]}
        assert server.post(body, headers=session).status_code == 200
        session["X-Session-Mode"] = "append"
        assert server.post({"model": MODEL, "messages": [user("more")]}, headers=session).status_code == 200
        (sent,) = (call for message in upstream.last["messages"] for call in message.get("tool_calls") or ())
        assert sent["function"]["arguments"].replace(" ", "") == nested(levels)


def test_the_bounds_are_settings(upstream_url: str) -> None:
    options = without_tools(upstream_url)
    with serving("serve", **options, MAX_MESSAGES="2", MAX_VALUES="20") as (_, server):
        body = {"model": MODEL, "messages": [user("a"), {"role": "assistant", "content": "b"}, user("c")]}
        assert server.post(body).json()["error"]["code"] == "array_above_max_length"
        assert server.post({**body, "messages": [user("a")]}).status_code == 200
        assert server.post({**body, "stop": None, "x": [0] * 20}).json()["error"]["code"] == "too_many_values"
