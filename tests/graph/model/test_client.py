"""The model's client, against an endpoint with the habits of real ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolCall
from langchain_core.tools import tool

from graph.model.calls import load_call
from graph.model.client import ChatModel, open_model
from graph.model.failures import ModelFailure
from graph.settings import AgentSettings
from tests.support.loopback import proxied
from tests.support.upstream import Answer, Call, Raw, Upstream, data


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


def model_at(url: str) -> AbstractAsyncContextManager[ChatModel]:
    """The model under test."""
    return open_model(AgentSettings(ollama_model="test-model", ollama_base_url=url))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_endpoint_on_this_machine_is_not_asked_through_a_proxy(
    upstream_url: str, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    proxied(monkeypatch)
    async with model_at(upstream_url.replace("127.0.0.1", host)) as model:
        await model.endpoint.names()


@pytest.fixture
async def model(upstream_url: str) -> AsyncIterator[ChatModel]:
    """The model under test, open."""
    async with model_at(upstream_url) as opened:
        yield opened


async def test_ids_of_calls_are_unique_over_all_answers(model: ChatModel, upstream: Upstream) -> None:
    upstream.otherwise = Answer(calls=[Call("look_up", '{"word": "x"}', id="0")])
    ids: set[str | None] = set()
    for _ in range(3):
        answer = await model.answer([HumanMessage("?")], tools=[look_up], parameters={})
        ids.update(call["id"] for call in answer.tool_calls)
    assert len(ids) == 3
    assert all(str(call).startswith("call_") and len(str(call)) == 29 for call in ids)


@pytest.mark.parametrize(
    "calls",
    [
        [Call("look_up", '{"word": "a"}', "1", 0), Call("look_up", '{"word": "b"}', "2", 1)],
        [Call("look_up", '{"word": "a"}', "1", 0), Call("look_up", '{"word": "b"}', "2", 0)],
        [Call("look_up", '{"word": "a"}', "1", 1), Call("look_up", '{"word": "b"}', "2", 2)],
    ],
    ids=["as OpenAI", "all under index 0", "from index 1"],
)
async def test_calls_are_told_apart_however_they_are_counted(
    model: ChatModel, upstream: Upstream, calls: list[Call]
) -> None:
    upstream.script(Answer(calls=calls))
    answer = await model.answer([HumanMessage("?")], tools=[look_up], parameters={})
    assert [call["args"] for call in answer.tool_calls] == [{"word": "a"}, {"word": "b"}]


async def test_an_answer_without_an_end_is_an_error(model: ChatModel, upstream: Upstream) -> None:
    upstream.script(Answer(["Half an ans"], finish_reason=""))
    with pytest.raises(ModelFailure, match="incomplete"):
        await model.answer([HumanMessage("?")], tools=[], parameters={})


async def test_a_connection_is_used_again_though_the_response_ends_behind_its_last_event(
    model: ChatModel, upstream: Upstream
) -> None:
    says = data({"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]})
    upstream.otherwise = Raw([says, "data: [DONE]\n\n"])
    for _ in range(3):
        assert (await model.answer([HumanMessage("?")], tools=[], parameters={})).text == "Hello"
    assert len(set(upstream.peers)) == 1


async def test_an_endpoint_that_never_ends_its_response_is_not_waited_for(model: ChatModel, upstream: Upstream) -> None:
    says = data({"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]})
    upstream.otherwise = Raw([says, "data: [DONE]\n\n", *[": still here\n\n"] * 500])
    async with asyncio.timeout(2):
        assert (await model.answer([HumanMessage("?")], tools=[], parameters={})).text == "Hello"


async def test_an_endpoint_that_never_begins_its_response_is_asked_once() -> None:
    """The openai package would ask again, and a slow model would work on both."""
    asked: list[bytes] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.read()  # until the client gives up
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        settings = AgentSettings(ollama_model="test-model", ollama_base_url=url, first_token_timeout=0.3)
        async with open_model(settings) as model, asyncio.timeout(20):
            response = model._response([HumanMessage("?")], None, True, {})
            with pytest.raises(ModelFailure) as failed:
                await anext(response.said(model.root_async_client))
    assert failed.value.failure.meaning == "timed out"
    assert len(asked) == 1


async def test_a_request_says_nothing_of_this_machine(model: ChatModel, upstream: Upstream) -> None:
    await model.answer([HumanMessage("?")], tools=[], parameters={})
    assert not [name for name in upstream.headers[-1] if name.startswith("x-stainless")]


async def test_only_openai_itself_is_sent_the_newer_name(model: ChatModel, upstream: Upstream) -> None:
    await model.answer([HumanMessage("?")], tools=[], parameters={"max_completion_tokens": 5})
    assert upstream.last["max_tokens"] == 5
    async with model_at("https://api.openai.com/v1") as openais:
        assert openais.in_its_names({"max_completion_tokens": 5}) == {"max_completion_tokens": 5}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"path": "/a"}', {"path": "/a"}),
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("{}", {}),
        ('""', {}),
        (r'"{\"a\": 1}"', {"a": 1}),
        ('{"a": 1}{"a": 1}', {"a": 1}),
        ('{}{"a": 1}', {"a": 1}),
        ('{"n": [18446744073709551615]}', {"n": [2**64 - 1]}),
        ('{"n": [-9223372036854775808]}', {"n": [-(2**63)]}),
        ('{"n": [18446744073709551616]}', {"n": [2.0**64]}),
        ('{"face": "\ud83d\ude00"}', {"face": "😀"}),
        (r'{"face": "\ud83d\ude00"}', {"face": "😀"}),
        ('{"face": "\ud83d"}', {"face": "\ufffd"}),
        (r'{"face": "\ud83d"}', {"face": "\ufffd"}),
        (r'{"\ud83d": 1}', {"\ufffd": 1}),
    ],
)
def test_e3_arguments_are_read_as_they_are_meant(text: str, arguments: Any) -> None:
    assert load_call("f", text, "1") == ToolCall(name="f", args=arguments, id="1", type="tool_call")


@pytest.mark.parametrize(
    "text", ['{"path": "/', "[1]", "5", '{"x": NaN}', '{"x": 1e999}', '{"a": 1}{"a": 2}', '{"a": 1} and', "[" * 100_000]
)
def test_arguments_that_are_no_object_are_not_made_one(text: str) -> None:
    call = load_call("f", text, "1")
    assert (call["type"], call["args"]) == ("invalid_tool_call", text)
    big = load_call("f", f'{{"n": {10**400}}}', "1")
    assert big["type"] == "invalid_tool_call"


@pytest.mark.parametrize(
    ("name", "kept"), [(" get_weather ", "get_weather"), ("weather.get", "weather_get"), ("x" * 70, "x" * 64)]
)
def test_a_name_that_the_model_made_up_can_be_sent_back(name: str, kept: str) -> None:
    assert load_call(name, "{}", "1")["name"] == kept
