"""The model's client, against an endpoint with the habits of real ones."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from langchain_core.messages import HumanMessage, ToolCall
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.tools import tool

from graph.model import ChatModel, IncompleteAnswer, load_calls, open_model
from graph.settings import AgentSettings
from tests.loopback import proxied
from tests.upstream import Answer, Call, Upstream


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
        await model.names()


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
    with pytest.raises(IncompleteAnswer):
        await model.answer([HumanMessage("?")], tools=[], parameters={})


async def test_only_openai_itself_is_sent_the_newer_name(model: ChatModel, upstream: Upstream) -> None:
    await model.answer([HumanMessage("?")], tools=[], parameters={"max_completion_tokens": 5})
    assert upstream.last["max_tokens"] == 5
    async with model_at("https://api.openai.com/v1") as openais:
        assert openais.in_its_names({"max_completion_tokens": 5}) == {"max_completion_tokens": 5}


def test_arguments_that_were_cut_are_not_completed() -> None:
    fragments = [
        tool_call_chunk(name="f", args=text, id=str(number))
        for number, text in enumerate(['{"path": "/a"}', "", '{"path": "/', "[1]", "null", '{"x": NaN}'])
    ]
    calls, malformed = load_calls(fragments)
    assert calls == [
        ToolCall(name="f", args={"path": "/a"}, id="0", type="tool_call"),
        ToolCall(name="f", args={}, id="1", type="tool_call"),
    ]
    assert [call["args"] for call in malformed] == ['{"path": "/', "[1]", "null", '{"x": NaN}']


def test_numbers_of_any_size_can_be_kept() -> None:
    fragments = [
        tool_call_chunk(name="f", args=f'{{"n": [{number}]}}', id=str(number))
        for number in (2**64 - 1, -(2**63), 2**64, 10**400)
    ]
    calls, malformed = load_calls(fragments)
    assert [call["args"]["n"] for call in calls] == [[2**64 - 1], [-(2**63)], [2.0**64]]
    assert len(malformed) == 1


def test_arguments_are_text_that_can_be_kept_and_sent() -> None:
    texts = ['{"face": "\ud83d\ude00"}', r'{"face": "\ud83d\ude00"}', '{"face": "\ud83d"}', r'{"face": "\ud83d"}']
    fragments = [tool_call_chunk(name="f", args=text, id=str(number)) for number, text in enumerate(texts)]
    calls, malformed = load_calls(fragments)
    assert [call["args"]["face"] for call in calls] == ["😀", "😀", "�"]
    assert [call["args"] for call in malformed] == [texts[3]]
