"""What the model is shown: whatever happened to a thread, every tool call is followed by its result."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, InvalidToolCall, ToolCall, ToolMessage

from graph.history import NOT_RUN, call_ids, paired, tool_rounds

IDS = st.sampled_from(["a", "b", "c", "d"])


def calling(ids: list[str], malformed: list[str]) -> AIMessage:
    """A model message with calls of these ids."""
    return AIMessage(
        "",
        tool_calls=[ToolCall(name="f", args={}, id=call, type="tool_call") for call in ids],
        invalid_tool_calls=[
            InvalidToolCall(name="f", args="{", id=call, error=None, type="invalid_tool_call") for call in malformed
        ],
    )


@st.composite
def threads(draw: st.DrawFn) -> list[AnyMessage]:
    """Any thread, cut and damaged in any way, in which call ids are unique as ours are."""
    unused = draw(st.permutations(["a", "b", "c", "d", "e", "f"]))
    messages: list[AnyMessage] = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["user", "answer", "calls", "result"]))
        match kind:
            case "user":
                messages.append(HumanMessage("?"))
            case "answer":
                messages.append(AIMessage("!"))
            case "calls":
                taken, unused = unused[:2], unused[2:]
                messages.append(calling(taken[:1], taken[1:]))
            case _:
                messages.append(ToolMessage("found", tool_call_id=draw(IDS)))
    return messages


@given(threads())
def test_every_call_is_followed_by_its_result_and_every_result_follows_its_call(messages: list[AnyMessage]) -> None:
    shown = paired(messages)
    waiting: list[str] = []
    for message in shown:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id == waiting.pop(0)
        else:
            assert waiting == []
            waiting = list(call_ids(message)) if isinstance(message, AIMessage) else []
    assert waiting == []


@given(threads())
def test_nothing_that_was_said_is_left_out_and_the_order_is_kept(messages: list[AnyMessage]) -> None:
    def said(thread: list[AnyMessage]) -> list[AnyMessage]:
        spoken = [message for message in thread if not isinstance(message, ToolMessage)]
        return [message for message in spoken if message.content or any(call_ids(cast(AIMessage, message)))]

    assert said(paired(messages)) == said(messages)


def test_an_answer_that_nothing_was_said_of_is_left_out() -> None:
    assert paired([HumanMessage("?"), AIMessage(""), HumanMessage("Hello?")]) == [
        HumanMessage("?"),
        HumanMessage("Hello?"),
    ]


@given(threads())
def test_a_thread_in_order_stays_as_it_is(messages: list[AnyMessage]) -> None:
    assert paired(paired(messages)) == paired(messages)


def test_a_call_without_a_result_is_said_to_have_none() -> None:
    shown = paired([calling(["a"], []), HumanMessage("Never mind.")])
    assert [message.content for message in shown] == ["", NOT_RUN, "Never mind."]


def test_rounds_are_counted_from_the_last_question_on() -> None:
    turn: list[AnyMessage] = [
        HumanMessage("?"),
        calling(["a"], []),
        ToolMessage("1", tool_call_id="a", name="f"),
        calling([], ["b"]),
    ]
    assert tool_rounds([]) == 0
    assert tool_rounds([*turn, ToolMessage("from the client", tool_call_id="b")]) == 0
    assert tool_rounds(turn) == 2
    assert tool_rounds([*turn, HumanMessage("?")]) == 0
    assert tool_rounds([*turn, HumanMessage("?"), AIMessage("!")]) == 0
