"""docs/compatibility.md says of each parameter what the server does with it."""

from typing import Any

import pytest

from server.chat.parameters import PARAMETERS
from server.chat.request import ChatRequest
from tests.support.agent_server import MODEL, AgentServer
from tests.support.client_tools import ASK
from tests.support.compatibility_page import kinds
from tests.support.upstream import Upstream

KINDS = kinds("Parameters of chat completions")
HELLO = {"role": "user", "content": "hello"}

SENT: dict[str, Any] = {
    "temperature": 0.1,
    "top_p": 0.2,
    "stop": ["."],
    "seed": 3,
    "max_completion_tokens": 4,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.6,
    "logit_bias": {"7": 8},
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "user": "mina",
    "parallel_tool_calls": False,
}
ASKED_FOR: dict[str, Any] = {
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "logprobs": True,
    "top_logprobs": 2,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "mp3"},
    "web_search_options": {},
    "moderation": {"policy": "strict"},
}


def test_b12_every_parameter_that_the_server_knows_is_in_the_table() -> None:
    assert PARAMETERS.table.keys() == ChatRequest.model_fields.keys()
    told = {name: KINDS[name] for name in PARAMETERS.table}
    assert told == {
        name: parameter.use.replace("passed on", "honoured") for name, parameter in PARAMETERS.table.items()
    }
    assert {KINDS[name] for name in KINDS.keys() - PARAMETERS.table.keys()} == {"ignored"}


def test_b12_what_is_honoured_reaches_the_model(server: AgentServer, upstream: Upstream) -> None:
    assert SENT.keys() == set(PARAMETERS.passed_on)
    body = {"model": MODEL, "messages": [HELLO], "tools": [ASK], **SENT}
    assert server.post(body).status_code == 200
    with_tools, with_the_format = upstream.requests
    expected = {**SENT, "max_tokens": SENT["max_completion_tokens"]}
    del expected["max_completion_tokens"]  # a name that only OpenAI itself knows
    sent = {**with_tools, **with_the_format}
    assert {name: sent.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", ASKED_FOR)
def test_b9_b12_what_is_refused_is_named(server: AgentServer, upstream: Upstream, name: str) -> None:
    assert ASKED_FOR.keys() == set(PARAMETERS.refused)
    refused = server.post({"model": MODEL, "messages": [HELLO], name: ASKED_FOR[name]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert upstream.requests == []


def test_b12_what_asks_for_nothing_is_not_refused(server: AgentServer) -> None:
    nothing = {name: values[0] for name in PARAMETERS.refused if (values := PARAMETERS.table[name].nothing)}
    assert server.post({"model": MODEL, "messages": [HELLO], "n": 1, **nothing}).status_code == 200


def test_b12_b13_what_is_ignored_is_neither_refused_nor_sent_on(server: AgentServer, upstream: Upstream) -> None:
    ignored = [name for name, kind in KINDS.items() if kind == "ignored"]
    body = {"model": MODEL, "messages": [HELLO], "thread_id": "x", **dict.fromkeys(ignored, "x")}
    assert server.post(body).status_code == 200
    assert not {*ignored, "thread_id"} & upstream.last.keys()
