"""Digests of transcripts: what counts as the same, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage

from server.sessions.transcript import Transcript, beginnings, digest_of


def calling(text: str, arguments: dict[str, int], call: str = "a") -> AIMessage:
    return AIMessage(text, tool_calls=[ToolCall(name="f", args=arguments, id=call, type="tool_call")])


def picture(url: str) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([HumanMessage("a\r\nb ")], [HumanMessage(" a\nb")]),
        ([HumanMessage("a", id="1")], [HumanMessage("a", id="2")]),
        ([HumanMessage("a"), AIMessage("")], [HumanMessage("a")]),
        ([AIMessage("Once "), AIMessage("upon")], [AIMessage("Once upon")]),
        ([calling("", {"n": 1})], [calling("", {"n": 2})]),
        ([HumanMessage([{"type": "text", "text": "a"}])], [HumanMessage("a")]),
    ],
)
def test_what_clients_change_does_not_count(one: list[AnyMessage], other: list[AnyMessage]) -> None:
    assert digest_of(one) == digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([HumanMessage("a")], [AIMessage("a")]),
        ([HumanMessage("a"), HumanMessage("a")], [HumanMessage("a")]),
        ([HumanMessage("a"), HumanMessage("b")], [HumanMessage("ab")]),
        ([HumanMessage("a b")], [HumanMessage("a  b")]),
        ([calling("", {}, "a")], [calling("", {}, "b")]),
        ([ToolMessage("x", tool_call_id="a")], [ToolMessage("x", tool_call_id="b")]),
        ([picture("data:1")], [picture("data:2")]),
    ],
)
def test_what_was_said_differently_is_something_else(one: list[AnyMessage], other: list[AnyMessage]) -> None:
    assert digest_of(one) != digest_of(other)


said = st.builds(
    lambda kind, text: kind(text), st.sampled_from([HumanMessage, AIMessage]), st.sampled_from(["", "a", " b "])
)


@given(st.lists(said), st.lists(said))
def test_each_digest_is_made_from_the_one_before_it(first: list[AnyMessage], rest: list[AnyMessage]) -> None:
    rest = [HumanMessage("in between"), *rest]  # or the answers on both sides would be one
    assert digest_of(rest, digest_of(first)) == digest_of([*first, *rest])


@given(st.lists(said))
def test_every_beginning_has_the_digest_of_its_messages(messages: list[AnyMessage]) -> None:
    for beginning in beginnings(messages):
        assert beginning.digest == digest_of(messages[: beginning.length])


@given(st.lists(said), st.sampled_from(["", " b"]))
def test_an_answer_may_continue_the_last_message(messages: list[AnyMessage], text: str) -> None:
    answer = AIMessage(text)
    assert Transcript.of(messages).with_answer(answer) == digest_of([*messages, answer])


@pytest.mark.parametrize(
    ("messages", "digest"),
    [
        ([HumanMessage("Hello")], "959e666b69e3cd9bc50bbc5d35e8f29a"),
        ([HumanMessage("안녕하세요"), AIMessage("네, 안녕하세요! ")], "f8cb27f3655b3fc4f6b72e24f94b267a"),
        (
            [HumanMessage("weather"), calling("", {"a": 1}, "call_1"), ToolMessage("5 °C", tool_call_id="call_1")],
            "5ff0b666c303afcb45157cc4b87878cd",
        ),
        (
            [
                HumanMessage(
                    [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "http://x/y"}}]
                )
            ],
            "d4db74aaef9cb231d3140f1c38714f14",
        ),
    ],
    ids=["a text", "Korean", "a call", "an image"],
)
def test_a_stored_session_is_still_known(messages: list[AnyMessage], digest: str) -> None:
    assert digest_of(messages).hex() == digest
