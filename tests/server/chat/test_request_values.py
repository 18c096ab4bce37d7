"""Values of a request's fields that clients send and mean nothing by, and numbers in other words."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from graph.state import TurnContext
from server.chat.parameters import PARAMETERS
from server.chat.request import ChatRequest
from server.chat.support import check_supported
from server.errors import InvalidRequest
from server.http.complaints import invalid_body
from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.compatibility_page import PAGE
from tests.support.upstream import Upstream

UNSAID = {name: parameter.nothing for name, parameter in PARAMETERS.table.items() if parameter.nothing}
TOOL = {"type": "function", "function": {"name": "f"}}

# Each with who sends it, or why it asks for nothing.
NOTHING: dict[str, dict[str, Any]] = {
    "no bound, as LM Studio and Open WebUI write it": {"max_tokens": -1},
    "the same under the newer name": {"max_completion_tokens": -1},
    "the same in decimals": {"max_tokens": -1.0},
    "no sequences": {"stop": []},
    "an empty field of a form": {"stop": ""},
    "a list with an empty field of a form": {"stop": [""]},
    "a list of no tools": {"tools": []},
    "a choice among no tools": {"tools": [], "tool_choice": "auto"},
    "a choice without tools": {"tool_choice": "auto"},
    "no choice without tools": {"tool_choice": "none"},
    "no choice among no tools": {"tools": [], "tool_choice": "none"},
    "no choice among null": {"tools": None, "tool_choice": "auto"},
    "an empty choice": {"tool_choice": ""},
    "a choice with nothing in it": {"tool_choice": {}},
    "no kinds of answers": {"modalities": [], "audio": {}},
    "one call at once of no tools": {"parallel_tool_calls": False},
    "no functions, from older clients": {"functions": []},
    "no call of no functions": {"functions": [], "function_call": "none"},
    "no probabilities": {"logprobs": False, "top_logprobs": 0},
    "what every answer is": {"modalities": ["text"]},
    "the same as a format": {"response_format": {"type": "text"}},
    "no bias": {"logit_bias": {}},
    "no data": {"metadata": {}},
    "no effort was picked": {"reasoning_effort": ""},
    "nobody": {"user": ""},
    "options of a stream that is none": {"stream_options": {}},
    "options that are off": {"stream": False, "stream_options": {"include_usage": False}},
    "an option that is null": {"stream_options": {"include_usage": None}},
    "one answer": {"n": 1},
}
# A client means something by these, or cannot mean anything by them.
SOMETHING: dict[str, tuple[dict[str, Any], str]] = {
    "OpenAI refuses 0": ({"max_tokens": 0}, "max_tokens"),
    "only -1 is no bound": ({"max_tokens": -2}, "max_tokens"),
    "a call that cannot be": ({"tool_choice": "required"}, "tool_choice"),
    "nor among none": ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    "a tool that is not there": ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    "functions": ({"functions": [{"name": "f"}]}, "functions"),
    "functions may be called, which map to nothing": ({"function_call": "auto"}, "function_call"),
    "probabilities": ({"logprobs": True}, "logprobs"),
    "a boolean is no number": ({"top_logprobs": False}, "top_logprobs"),
    "a number is no boolean": ({"logprobs": 0}, "logprobs"),
    "usage of a stream that is none": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "a search with what is usual": ({"web_search_options": {}}, "web_search_options"),
    "no conversation": ({"messages": []}, "messages"),
    "an effort is a text": ({"reasoning_effort": []}, "reasoning_effort"),
    "a text is no list": ({"tools": ""}, "tools"),
    "a list is no text": ({"tool_choice": []}, "tool_choice"),
    "a text is no number": ({"max_tokens": ""}, "max_tokens"),
}
NUMBERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_tokens": ({"max_tokens": 10.0}, {"max_completion_tokens": 10}),
    "an exponent": ({"max_completion_tokens": 1e1}, {"max_completion_tokens": 10}),
    "seed": ({"seed": 7.0}, {"seed": 7}),
    "the smallest seed": ({"seed": -(2**63)}, {"seed": -(2**63)}),
    "the greatest seed": ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
    "a bias": ({"logit_bias": {"5": 1.0, "6": -100.0}}, {"logit_bias": {"5": 1, "6": -100}}),
    "n": ({"n": 1.0}, {}),
    "a decimal that is one": ({"temperature": 1}, {"temperature": 1}),
}
NO_NUMBERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a fraction": ({"max_tokens": 10.5}, "max_tokens", "invalid_type"),
    "a text": ({"max_tokens": "10"}, "max_tokens", "invalid_type"),
    "a boolean": ({"max_tokens": True}, "max_tokens", "invalid_type"),
    "a boolean seed": ({"seed": False}, "seed", "invalid_type"),
    "a boolean for a decimal": ({"temperature": True}, "temperature", "invalid_type"),
    "a text for a decimal": ({"temperature": "1"}, "temperature", "invalid_type"),
    "n": ({"n": 129.0}, "n", "integer_above_max_value"),
    "a seed above 64 bits": ({"seed": 2**63}, "seed", "integer_above_max_value"),
    "a seed below 64 bits": ({"seed": -(2**63) - 1}, "seed", "integer_below_min_value"),
    "a seed in decimals above 64 bits": ({"seed": 2.0**63}, "seed", "integer_above_max_value"),
    "tokens above 64 bits": ({"max_tokens": 1e300}, "max_tokens", "integer_above_max_value"),
    "a word for a token": ({"logit_bias": {"foo": 1}}, "logit_bias.foo", "invalid_value"),
    "a token before all others": ({"logit_bias": {"-1": 1}}, "logit_bias.-1", "invalid_value"),
    "a fraction of a token": ({"logit_bias": {"1.0": 1}}, "logit_bias.1.0", "invalid_value"),
    "a bias too far": ({"logit_bias": {"5": 100.5}}, "logit_bias.5", "invalid_type"),
    "a bias above": ({"logit_bias": {"5": 101.0}}, "logit_bias.5", "integer_above_max_value"),
    "a boolean bias": ({"logit_bias": {"5": True}}, "logit_bias.5", "invalid_type"),
}


def load(fields: dict[str, Any]) -> ChatRequest:
    """Return the request as the handler gets it, or raise what the client is told."""
    try:
        request = ChatRequest.model_validate({"model": MODEL, "messages": [HELLO], **fields})
    except ValidationError as error:
        raise invalid_body(error.errors()) from error
    check_supported(request)
    return request


@pytest.mark.parametrize("fields", NOTHING.values(), ids=NOTHING)
def test_c5_what_asks_for_nothing_is_taken_as_not_said(fields: dict[str, Any]) -> None:
    request = load(fields)
    sent = {name: value for name, value in request.parameters().items() if name != "parallel_tool_calls"}
    turn = TurnContext(client_tools=tuple(request.client_tools()), tool_choice=request.choice())
    assert (sent, turn.callable_tools, turn.demanded_call) == ({}, (), None)


@pytest.mark.parametrize(("fields", "param"), SOMETHING.values(), ids=SOMETHING)
def test_c5_what_asks_for_something_else_is_still_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load(fields)
    assert caught.value.param == param


def test_c5_the_document_lists_the_values_that_ask_for_nothing() -> None:
    table = PAGE.split("### Values that ask for nothing")[1].split("##")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    listed = {
        name: re.findall(r"`([^`]+)`", values) for names, values in rows for name in re.findall(r"`(\w+)`", names)
    }
    assert listed.keys() >= UNSAID.keys()
    for name, values in listed.items():
        for value in map(json.loads, values):
            assert load({name: value}).parameters() == {}, (name, value)
        for value in UNSAID.get(name, ()):
            assert value in [json.loads(each) for each in values], (name, value)


def test_c5_all_of_it_together_is_answered_as_if_it_were_not_there(server: AgentServer, upstream: Upstream) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}
    assert server.post(body).status_code == 200
    plain = upstream.last
    for fields in NOTHING.values():
        body = {**fields, **body}
    response = server.post(body)
    assert response.status_code == 200, response.text
    assert upstream.last == plain


def test_c5_with_tools_a_choice_still_is_one(server: AgentServer, upstream: Upstream) -> None:
    body = {"model": MODEL, "messages": [HELLO], "tools": [TOOL]}
    for choice, offered in (("auto", [TOOL]), ("", [TOOL]), (None, [TOOL]), ("none", None)):
        assert server.post({**body, "tool_choice": choice}).status_code == 200
        assert upstream.last.get("tools") == offered, choice


@pytest.mark.parametrize(("fields", "sent"), NUMBERS.values(), ids=NUMBERS)
def test_c7_a_decimal_without_a_fraction_is_an_integer(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    parameters = load(fields).parameters()
    assert parameters == sent
    assert {name: type(value) for name, value in parameters.items() if name not in ("logit_bias", "temperature")} == {
        name: int for name in sent if name not in ("logit_bias", "temperature")
    }
    assert all(type(value) is int for value in (parameters.get("logit_bias") or {}).values())


@pytest.mark.parametrize(("fields", "param", "code"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_c7_what_is_no_integer_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load(fields)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_c7_a_seed_out_of_bounds_is_told_them_in_full(server: AgentServer) -> None:
    error = server.post({"model": MODEL, "messages": [HELLO], "seed": 2**63}).json()["error"]
    assert "<= 9223372036854775807" in error["message"]
