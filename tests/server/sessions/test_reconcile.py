"""Where a request goes on in its session: the table of cases, and what must hold for any messages."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage

from server.messages.tool_results import UnpairedMessage
from server.sessions.reconcile import (
    CANCELLED,
    Habit,
    Knowledge,
    KnownTurn,
    Mode,
    Step,
    habit_after,
    reconcile,
    whole_transcript,
)
from server.sessions.transcript import Transcript, digest_of


def user(text: str) -> AnyMessage:
    return HumanMessage(text)


def assistant(text: str = "", *calls: str) -> AnyMessage:
    return AIMessage(text, tool_calls=[ToolCall(name="f", args={"n": 1}, id=call, type="tool_call") for call in calls])


def result(call: str) -> AnyMessage:
    return ToolMessage("found", tool_call_id=call)


def turns(*transcripts: Sequence[AnyMessage]) -> Knowledge:
    """What a session knows that answered these transcripts, one after the other; the last is the newest."""
    known: list[KnownTurn] = []
    for number, transcript in enumerate(transcripts, 1):
        last = transcript[-1]
        known.append(
            KnownTurn(
                id=number,
                number=sum(isinstance(message, HumanMessage) for message in transcript),
                asked=digest_of(transcript[:-1]),
                digest=digest_of(transcript),
                checkpoint_id=f"checkpoint {number}",
                waiting=tuple(call["id"] or "" for call in last.tool_calls) if isinstance(last, AIMessage) else (),
            )
        )
    return Knowledge(
        newest=known[-1] if known else None,
        turns={turn.digest: turn for turn in known},
        paused={call: turn for turn in known for call in turn.waiting},
    )


def with_habit(known: Knowledge, habit: Habit) -> Knowledge:
    return Knowledge(newest=known.newest, turns=known.turns, paused=known.paused, habit=habit)


ONE: list[AnyMessage] = [user("one"), assistant("1")]
TWO: list[AnyMessage] = [*ONE, user("two"), assistant("2")]
OTHER: list[AnyMessage] = [*ONE, user("another two"), assistant("22")]
PAUSED: list[AnyMessage] = [*ONE, user("ask"), assistant("", "a", "b")]
ANEW: list[AnyMessage] = [*ONE, user("ask"), assistant("Hm.", "a", "b")]
BOTH = [result("a"), result("b")]
EMPTY, AFTER_ONE, AFTER_TWO = turns(), turns(ONE), turns(ONE, TWO)
FORKED, WAITING = turns(ONE, TWO, OTHER), turns(ONE, PAUSED)

CASES: list[tuple[str, Knowledge, Sequence[AnyMessage], Mode, str, int]] = [
    # what it is, what is known, messages, mode -> what becomes of it, and how many messages of the end are new
    ("first", EMPTY, [user("one")], "auto", "new root", 1),
    ("first, with a history from elsewhere", EMPTY, [*TWO, user("three")], "auto", "new root", 5),
    ("continue", AFTER_TWO, [*TWO, user("three")], "auto", "after 2", 1),
    ("continue, with several new messages", AFTER_TWO, [*TWO, user("three"), user("and")], "auto", "after 2", 2),
    ("delta", AFTER_TWO, [user("three")], "auto", "after 2", 1),
    ("delta at the second turn", AFTER_ONE, [user("two")], "auto", "after 1", 1),
    ("the first question again at the second turn", AFTER_ONE, [user("one")], "auto", "new root", 1),
    ("the same of a client known to append", with_habit(AFTER_ONE, "append"), [user("one")], "auto", "after 1", 1),
    ("a lone message of a client that sends all", with_habit(AFTER_TWO, "full"), [user("x")], "auto", "new root", 1),
    ("a lone message of another program's chat", AFTER_TWO, [user("x")], "full", "new root", 1),
    ("a lone message that is said to be new", with_habit(AFTER_TWO, "full"), [user("x")], "append", "after 2", 1),
    ("a history that is said to be new", AFTER_ONE, [*ONE, user("x")], "append", "after 1", 3),
    ("regenerate", AFTER_TWO, TWO[:-1], "auto", "after 1", 1),
    ("regenerate the first", AFTER_TWO, ONE[:1], "full", "new root", 1),
    ("edit at the second turn", AFTER_TWO, [*ONE, user("2nd")], "auto", "after 1", 1),
    ("edit in the middle", AFTER_TWO, [*ONE, user("x"), assistant("y"), user("z")], "auto", "after 1", 3),
    ("edit of the first", AFTER_TWO, [user("x"), *TWO[1:], user("z")], "auto", "new root", 5),
    ("other branch", FORKED, [*TWO, user("three")], "auto", "after 2", 1),
    ("rewritten", AFTER_TWO, [user("so far: …"), assistant("Yes."), user("three")], "auto", "new root", 3),
    ("an answer that the client edited", AFTER_TWO, [*TWO[:3], assistant("deux"), user("3")], "auto", "after 1", 3),
    ("tool results", WAITING, [*PAUSED, result("a"), result("b")], "auto", "after 2", 2),
    ("tool results alone", WAITING, [result("a"), result("b")], "auto", "after 2", 2),
    ("tool results in another order", WAITING, [result("b"), result("a")], "auto", "after 2", 2),
    ("tool results alone, of a client that sends all", WAITING, [result("a"), result("b")], "full", "after 2", 2),
    (
        "tool results after calls that the client wrote anew",
        WAITING,
        [*ONE, user("ask"), assistant("Hm.", "a", "b"), result("a"), result("b")],
        "auto",
        "after 2",
        2,
    ),
    (
        "tool results and a question",
        WAITING,
        [*PAUSED, *BOTH, user("so?")],
        "auto",
        "after 2",
        3,
    ),
    ("prefill", AFTER_ONE, [*ONE, user("poem"), assistant("Roses")], "auto", "after 1", 2),
    ("continue an answer", AFTER_TWO, TWO, "auto", "after 2", 0),
    ("continue an answer on another branch", FORKED, TWO, "full", "after 2", 0),
    (
        "continue the first answer, of which the client has less",
        AFTER_ONE,
        [user("one"), assistant("")],
        "auto",
        "new root",
        2,
    ),
    ("prefill alone", AFTER_TWO, [user("poem"), assistant("Roses")], "auto", "after 2", 2),
    ("nothing but system messages", AFTER_ONE, [], "auto", "new root", 0),
]


def became(step: Step) -> str:
    return f"after {step.after.id}" if step.after else "new root"


@pytest.mark.parametrize(
    ("known", "messages", "mode", "expected", "new"), [pytest.param(*case, id=name) for name, *case in CASES]
)
def test_each_case_goes_on_where_it_should(
    known: Knowledge, messages: Sequence[AnyMessage], mode: Mode, expected: str, new: int
) -> None:
    step = reconcile(known, Transcript.of(messages), mode)
    assert became(step) == expected
    assert list(step.messages) == list(messages[len(messages) - new :])


@pytest.mark.parametrize("messages", [[*PAUSED, user("Never mind.")], [user("Never mind.")]], ids=["full", "delta"])
def test_moved_on_the_waiting_calls_are_cancelled(messages: Sequence[AnyMessage]) -> None:
    step = reconcile(WAITING, Transcript.of(messages))
    assert became(step) == "after 2"
    shown = [(message.type, message.content, getattr(message, "tool_call_id", None)) for message in step.messages]
    assert shown == [("tool", CANCELLED, "a"), ("tool", CANCELLED, "b"), ("human", "Never mind.", None)]


def test_a_call_that_was_moved_on_from_may_come_again_in_a_history() -> None:
    rewritten = [user("so far"), *PAUSED[2:], user("Never mind."), assistant("Fine."), user("And?")]
    step = reconcile(WAITING, Transcript.of(rewritten))
    assert became(step) == "new root"
    assert [message.content for message in step.messages if message.type == "tool"] == [CANCELLED, CANCELLED]


def test_results_that_come_after_the_user_moved_on_are_refused() -> None:
    followed = {call: replace(turn, is_followed=True) for call, turn in WAITING.paused.items()}
    known = replace(turns(ONE, PAUSED, [*PAUSED, user("Never mind."), assistant("Fine.")]), paused=followed)
    with pytest.raises(UnpairedMessage):
        reconcile(known, Transcript.of(BOTH))
    again = reconcile(known, Transcript.of([*PAUSED, *BOTH]))
    assert became(again) == "after 2", "with its calls it is another branch"


def test_moved_on_after_some_results_only_the_others_are_cancelled() -> None:
    step = reconcile(WAITING, Transcript.of([*PAUSED, result("b"), user("Never mind.")]))
    assert [message.content for message in step.messages] == ["found", CANCELLED, "Never mind."]


@pytest.mark.parametrize(
    ("known", "messages", "complaint"),
    [
        (WAITING, [*PAUSED, result("a")], "did not have response messages: b"),
        (WAITING, [result("b")], "did not have response messages: a"),
        (AFTER_ONE, [result("x")], "must be a response to a preceeding message"),
        (EMPTY, [result("x")], "must be a response to a preceeding message"),
        (WAITING, [*PAUSED, result("a"), result("b"), result("x")], "must be a response to a preceeding message"),
        (AFTER_TWO, [*TWO, result("x")], "must be a response to a preceeding message"),
        (EMPTY, [*PAUSED, user("so?")], "did not have response messages: a, b"),
        (EMPTY, PAUSED, "did not have response messages: a, b"),
        (AFTER_ONE, [*PAUSED, result("a"), user("so?")], "did not have response messages: b"),
    ],
)
def test_tool_results_that_fit_no_call_are_refused(
    known: Knowledge, messages: Sequence[AnyMessage], complaint: str
) -> None:
    with pytest.raises(UnpairedMessage, match=complaint):
        reconcile(known, Transcript.of(messages))


@pytest.mark.parametrize(
    ("known", "messages", "habit"),
    [
        (EMPTY, [user("one")], None),
        (EMPTY, [*ONE, user("two")], "full"),
        (AFTER_ONE, [user("two")], "append"),
        (AFTER_ONE, [user("one")], None),
        (AFTER_ONE, [*ONE, user("two")], "full"),
        (with_habit(AFTER_TWO, "append"), [*TWO, user("three")], "full"),
        (with_habit(AFTER_TWO, "full"), [user("three")], "full"),
        (turns([user("one"), assistant()]), [user("one"), user("two")], None),
        (turns([*ONE[:1], assistant("", "a")]), [result("a")], "append"),
        (turns([*ONE[:1], assistant("", "a")]), [assistant("", "a"), result("a")], None),
        (with_habit(AFTER_TWO, "append"), [user("poem"), assistant("Roses")], "append"),
        (EMPTY, [assistant("Hello!"), user("one")], None),
    ],
)
def test_a_session_remembers_what_its_client_does(
    known: Knowledge, messages: Sequence[AnyMessage], habit: Habit | None
) -> None:
    assert habit_after(known, messages, reconcile(known, Transcript.of(messages))) == habit


texts = st.sampled_from(["a", "b", " a", "b\r\n"])


@st.composite
def conversations(draw: st.DrawFn) -> list[AnyMessage]:
    """Questions and answers in turn, with few words, so that many conversations begin alike."""
    rounds = draw(st.integers(0, 4))
    return [message for _ in range(rounds) for message in (user(draw(texts)), assistant(draw(texts)))]


@given(st.lists(conversations().filter(bool), max_size=5), conversations(), texts)
def test_what_is_known_and_what_is_new_make_up_the_messages(
    answered: list[list[AnyMessage]], history: list[AnyMessage], question: str
) -> None:
    known = turns(*answered)
    messages = [*history, user(question)]
    step = reconcile(known, Transcript.of(messages), "full")
    before = step.after.digest if step.after else digest_of([])
    assert digest_of(step.messages, before) == digest_of(messages)
    assert whole_transcript(step, Transcript.of(messages)).digest == digest_of(messages)


@given(st.lists(conversations().filter(bool), min_size=1, max_size=5), texts, st.data())
def test_every_branch_can_be_continued(answered: list[list[AnyMessage]], question: str, data: st.DataObject) -> None:
    branch = data.draw(st.sampled_from(answered))
    step = reconcile(turns(*answered), Transcript.of([*branch, user(question)]), "full")
    assert step.after is not None
    assert step.after.digest == digest_of(branch)
    assert [message.content for message in step.messages] == [question]
