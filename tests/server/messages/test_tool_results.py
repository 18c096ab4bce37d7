"""Tool calls and their results, where ids come again: as Kimi and some clients number the calls of each turn anew."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage

from graph.history import call_ids, paired, unanswered
from server.messages.tool_results import UnpairedMessage, check_paired, results_at_end, unanswered_calls
from server.sessions.reconcile import Knowledge, reconcile
from server.sessions.transcript import Transcript
from tests.support.agent_server import MODEL, AgentServer
from tests.support.upstream import Json, Upstream

IDS = st.sampled_from(["list_dir:0", "call_0", "call_1", ""])


def calling(ids: list[str], turn: int = 0) -> AIMessage:
    calls = [
        ToolCall(name="f", args={"turn": turn, "call": n}, id=each, type="tool_call") for n, each in enumerate(ids)
    ]
    return AIMessage("", tool_calls=calls)


@st.composite
def histories(draw: st.DrawFn) -> list[AnyMessage]:
    """Any well-formed history; a result says of which call it is. Ids repeat, in later messages and in the same one."""
    messages: list[AnyMessage] = []
    for turn in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            messages.append(HumanMessage("?"))
        ids = draw(st.lists(IDS, max_size=4))
        messages.append(calling(ids, turn) if ids else AIMessage("!"))
        results = {
            each: [ToolMessage(f"{turn} {n}", tool_call_id=each) for n, call in enumerate(ids) if call == each]
            for each in ids
        }
        messages.extend(results[each].pop(0) for each in draw(st.permutations(ids)))
    return messages


def strictly(messages: list[AnyMessage]) -> None:
    """OpenAI's check: each message with calls is followed by exactly their results, before anything else."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
        else:
            assert waiting == []
            waiting = list(call_ids(message)) if isinstance(message, AIMessage) else []
    assert waiting == []


@given(histories())
def test_c4_each_result_stays_with_its_call_whatever_the_ids_are(messages: list[AnyMessage]) -> None:
    check_paired(messages)
    shown = paired(messages)
    strictly(shown)
    assert sorted(map(repr, shown)) == sorted(map(repr, messages)), "nothing is lost, nothing is said twice"
    calls: list[ToolCall] = []
    for message in shown:
        if isinstance(message, AIMessage):
            calls = list(message.tool_calls)
        elif isinstance(message, ToolMessage):
            call = calls.pop(0)
            assert (message.tool_call_id, message.text) == (
                call["id"],
                f"{call['args']['turn']} {call['args']['call']}",
            )
    assert unanswered_calls(messages) == []
    step = reconcile(Knowledge(), Transcript.of(messages))
    assert step.after is None
    assert list(step.messages) == messages


@given(histories(), st.data())
def test_c4_a_result_that_is_missing_is_missed(messages: list[AnyMessage], data: st.DataObject) -> None:
    places = [place for place, message in enumerate(messages) if isinstance(message, ToolMessage)]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    left = messages[:place] + messages[place + 1 :]
    missing = messages[place]
    assert isinstance(missing, ToolMessage)
    assert unanswered_calls(left) == [missing.tool_call_id]
    with pytest.raises(UnpairedMessage, match="did not have response messages: ") as caught:
        check_paired(left)
    assert str(caught.value).endswith(f": {missing.tool_call_id}")
    shown = paired(left)
    strictly(shown)
    assert [message.text for message in shown].count(unanswered("").text) == 1
    others = [message for message in shown if isinstance(message, ToolMessage) and message in left]
    assert len(others) == len(places) - 1


@given(histories(), IDS)
def test_c4_a_result_too_many_is_too_many(messages: list[AnyMessage], call: str) -> None:
    with pytest.raises(UnpairedMessage, match="preceeding"):
        check_paired([*messages, ToolMessage("again", tool_call_id=call)])
    assert paired([*messages, ToolMessage("again", tool_call_id=call)]) == paired(messages)


def test_c4_a_result_before_its_call_is_none() -> None:
    early: list[AnyMessage] = [ToolMessage("early", tool_call_id="a"), calling(["a"])]
    assert [message.text for message in paired(early)][1:] == [unanswered("a").text]
    assert unanswered_calls(early) == ["a"]


def test_c4_forty_thousand_calls_whose_results_come_in_reverse() -> None:
    ids = [f"call_{number}" for number in range(40_000)]
    messages: list[AnyMessage] = [calling(ids), *(ToolMessage(each, tool_call_id=each) for each in reversed(ids))]
    check_paired(messages)
    assert [message.text for message in paired(messages)[1:]] == ids
    assert unanswered_calls(messages) == []
    assert unanswered_calls(messages[:1]) == ids
    assert len(results_at_end(messages)) == 40_000
    assert reconcile(Knowledge(), Transcript.of(messages)).after is None


def history(*results: str) -> list[Json]:
    """A conversation in which each turn has called the same tool under the same id."""
    messages: list[Json] = []
    for number, result in enumerate(results):
        call = {"id": "list_dir:0", "type": "function", "function": {"name": "list_dir", "arguments": "{}"}}
        messages += [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "list_dir:0", "content": result},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    return messages


@pytest.mark.parametrize("fields", [{"store": False}, {"session_id": "s"}, {}])
def test_c4_the_model_is_shown_each_turn_s_own_result(
    server: AgentServer, upstream: Upstream, fields: dict[str, Any]
) -> None:
    grown = history("one", "two", "three")
    for end in (3, 5, 7, 9, 11):
        messages = grown[:end]
        assert server.post({"model": MODEL, "messages": messages, **fields}).status_code == 200
        shown = upstream.last["messages"][1:]
        assert [(each["role"], each["content"]) for each in shown] == [
            (each["role"], each["content"]) for each in messages
        ]
    again = [*grown, {"role": "user", "content": "and now?"}]
    assert server.post({"model": MODEL, "messages": again, **fields}).status_code == 200
    found = [each["content"] for each in upstream.last["messages"] if each["role"] == "tool"]
    assert found == ["one", "two", "three"]


def test_c4_as_many_results_as_a_request_may_have_are_answered(server: AgentServer, upstream: Upstream) -> None:
    ids = [f"c{number}" for number in range(1_998)]
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": ""}} for each in ids]
    results = [{"role": "tool", "tool_call_id": each, "content": each} for each in reversed(ids)]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    answered = server.post({"model": MODEL, "messages": messages})
    assert answered.status_code == 200, answered.text[:200]
    assert [each["content"] for each in upstream.last["messages"][3:]] == ids
    assert json.loads(answered.text)["choices"][0]["finish_reason"] == "stop"
