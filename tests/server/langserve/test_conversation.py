"""What LangServe's clients may send as a conversation."""

import json
from typing import Any

import httpx
import pytest
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    convert_to_messages,
    messages_to_dict,
)
from langserve import RemoteRunnable

from server.errors import InvalidRequest
from server.langserve.conversation import load_conversation
from tests.support.agent_server import AgentServer
from tests.support.upstream import Upstream

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
# Each taken by LangChain's `convert_to_messages` too, as the same messages.
TAKEN: dict[str, list[Any]] = {
    "texts": ["hi", "there"],
    "role and content": [["human", "hi"], ["ai", "hello"], ["system", "be brief"], ["user", "again"]],
    "OpenAI's": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    "OpenAI's developer": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
    "OpenAI's parts": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "a role of LangChain's": [{"role": "human", "content": "hi"}, {"role": "ai", "content": "hello"}],
    "a type": [
        {"type": "human", "content": "hi"},
        {"type": "ai", "content": "hello"},
        {"type": "human", "content": "?"},
    ],
    "what a runnable sends": [
        HumanMessage("hi").model_dump(),
        AIMessage("ho").model_dump(),
        HumanMessage("?").model_dump(),
    ],
    "serialised": [
        dumpd(HumanMessage("hi")),
        dumpd(AIMessage("ho")),
        dumpd(HumanMessage("?")),
        dumpd(SystemMessage("x")),
    ],
    "no content": [{"role": "user", "content": None}],
    "texts as parts": [["human", ["hi"]]],
    "OpenAI's calls": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "found"},
    ],
    "LangChain's calls": [
        HumanMessage("hi").model_dump(),
        AIMessage("", tool_calls=[ToolCall(name="f", args={"x": 1}, id="a", type="tool_call")]).model_dump(),
        ToolMessage("found", tool_call_id="a").model_dump(),
    ],
    "mixed": ["hi", ["ai", "hello"], {"role": "user", "content": "?"}],
}
REFUSED: dict[str, tuple[Any, str]] = {
    "a number": (5, "messages[0]"),
    "nothing": (None, "messages[0]"),
    "an empty list": ([], "messages[0]"),
    "a role alone": (["human"], "messages[0]"),
    "three things": (["human", "hi", "there"], "messages[0]"),
    "a role that is a number": ([5, "hi"], "messages[0]"),
    "an unknown role": (["alien", "hi"], "messages[0].role"),
    "an unknown type": ({"type": "alien", "content": "hi"}, "messages[0].role"),
    "no role": ({"content": "hi"}, "messages[0].role"),
    "a role that is a list": ({"role": ["user"], "content": "hi"}, "messages[0].role"),
    "no content": ({"type": "human"}, "messages[0].content"),
    "a content that is a number": ({"role": "user", "content": 5}, "messages[0].content"),
    "a content that is an object": ({"role": "user", "content": {}}, "messages[0].content"),
    "an image": (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        "messages[0].content",
    ),
    "a part without a type": ({"role": "user", "content": [{"text": "hi"}]}, "messages[0].content[0].type"),
    "calls that are none": ({"role": "ai", "content": "", "tool_calls": ["f"]}, "messages[0].tool_calls[0]"),
    "a call without an id": (
        {"role": "ai", "content": "", "tool_calls": [{"name": "f", "args": {}, "type": "tool_call"}]},
        "messages[0].tool_calls[0].id",
    ),
    "a result of no call": ({"role": "tool", "content": "found"}, "messages[0].tool_call_id"),
    "LangChain's oldest results": (FunctionMessage(content="found", name="f").model_dump(), "messages[0].role"),
    "a role of somebody's own": (ChatMessage(content="hi", role="critic").model_dump(), "messages[0].role"),
    "what is to be removed": (RemoveMessage("x").model_dump(), "messages[0].role"),
    "a prompt": (dumpd(ChatMessage(content="hi", role="x")), "messages[0].role"),
}


def plain(messages: list[AnyMessage] | list[Any]) -> list[tuple[Any, ...]]:
    return [
        (
            each.type,
            str(each.text),
            [(call["name"], call["args"], call["id"]) for call in getattr(each, "tool_calls", [])],
        )
        for each in messages
    ]


@pytest.mark.parametrize("messages", TAKEN.values(), ids=TAKEN)
def test_c10_messages_are_taken_as_langchain_takes_them(messages: list[Any]) -> None:
    loaded = load_conversation({"input": {"messages": json.loads(json.dumps(messages))}})
    assert plain(loaded) == plain(convert_to_messages(messages))
    assert len({message.id for message in loaded}) == len(messages)


def test_c10_chunks_are_messages_too() -> None:
    sent = [["human", "hi"], dumpd(AIMessageChunk(content="hello")), AIMessageChunk(content="there").model_dump()]
    assert plain(load_conversation({"input": sent}))[1:] == [("ai", "hello", []), ("ai", "there", [])]


def test_c10_the_older_form_of_a_stored_conversation_is_taken() -> None:
    stored = messages_to_dict([HumanMessage("hi"), AIMessage("hello"), HumanMessage("?")])
    loaded = load_conversation({"input": {"messages": json.loads(json.dumps(stored))}})
    assert plain(loaded) == [("human", "hi", []), ("ai", "hello", []), ("human", "?", [])]


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        ["hi"],
        {"messages": "hi"},
        {"messages": ["hi"]},
        {"messages": {"role": "user", "content": "hi"}},
        {"role": "user", "content": "hi"},
        {"type": "human", "content": "hi"},
        [["human", "hi"]],
    ],
)
def test_c10_one_message_is_a_conversation(given: Any) -> None:
    assert plain(load_conversation({"input": given})) == [("human", "hi", [])]


@pytest.mark.parametrize(("message", "param"), REFUSED.values(), ids=REFUSED)
def test_c10_what_is_no_message_is_named_by_its_place(message: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_conversation({"input": {"messages": [message]}})
    assert caught.value.param == param
    with pytest.raises(InvalidRequest) as caught:
        load_conversation({"input": {"messages": ["hi", message]}})
    assert caught.value.param == param.replace("messages[0]", "messages[1]")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("hi", None),
        ({}, "input"),
        ({"input": {}}, "messages"),
        ({"input": {"messages": []}}, "messages"),
        ({"input": []}, "messages"),
        ({"input": {"messages": None}}, "messages[0]"),
        ({"input": None}, None),
        ({"input": 5}, None),
    ],
)
def test_c10_what_is_no_conversation_is_refused(body: Any, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_conversation(body)
    assert caught.value.param == param


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_c10_every_door_takes_and_refuses_them(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    url = f"{server.url}/agent/{endpoint}"
    for given in ({"messages": [["human", "hi"]]}, {"messages": ["hi"]}, "hi", [{"role": "user", "content": "hi"}]):
        answered = httpx.post(url, json={"input": given})
        assert answered.status_code == 200, answered.text
        assert "You said: hi" in answered.text
    asked = len(upstream.requests)
    for message, param in REFUSED.values():
        refused = httpx.post(url, json={"input": {"messages": [message]}})
        assert refused.status_code == 400, refused.text
        error = refused.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert "pydantic" not in error["message"]
    assert len(upstream.requests) == asked
    assert "Traceback" not in caplog.text


def test_c10_tool_results_are_shown_to_the_model_and_must_have_their_calls(
    server: AgentServer, upstream: Upstream
) -> None:
    calling = AIMessage("", tool_calls=[ToolCall(name="f", args={"x": 1}, id="a", type="tool_call")])
    messages = [HumanMessage("hi"), calling, ToolMessage("found", tool_call_id="a")]
    agent: Any = RemoteRunnable(f"{server.url}/agent")
    assert agent.invoke({"messages": messages}) == "You said: found"
    assert [message["role"] for message in upstream.last["messages"]] == ["system", "user", "assistant", "tool"]
    orphan = httpx.post(
        f"{server.url}/agent/invoke", json={"input": [{"role": "tool", "tool_call_id": "a", "content": ""}]}
    )
    assert (orphan.status_code, orphan.json()["error"]["param"]) == (400, "messages.[0].role")
