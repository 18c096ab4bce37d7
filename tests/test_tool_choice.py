"""The evaluation of the demo's model: its questions, and what it takes for right. No model is asked here."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage

from benchmarks.tool_choice import is_in_language, is_right_text, judged, load_questions, score_lines

KINDS = {"tool", "no_tool", "code", "small_talk", "follow_up", "korean_yes_no", "two_tools"}
QUESTIONS = load_questions()


def called(*cities: str, name: str = "get_weather") -> AIMessage:
    """A message of the model that asks for the weather of some cities."""
    calls = [ToolCall(name=name, args={"city": city}, id=f"call_{city}", type="tool_call") for city in cities]
    return AIMessage("", tool_calls=calls)


def wanted(city: str, **more: Any) -> dict[str, Any]:
    """A call that a question wants."""
    return {"tool": "get_weather", "args": {"city": city}, **more}


async def went(question: dict[str, Any], *answers: AIMessage) -> tuple[bool, Sequence[BaseMessage]]:
    """Judge a conversation with a model that gives these answers; return also the last messages that it was shown."""
    coming = list(answers)
    shown: list[BaseMessage] = []

    async def ask(messages: Sequence[BaseMessage]) -> AIMessage:
        shown[:] = messages
        return coming.pop(0)

    right, _ = await judged({"question": "?", "lang": "en", **question}, ask)
    assert not coming, "it is asked until its last answer"
    return right, shown


def test_f16_there_are_150_questions_in_two_halves_and_each_kind_is_in_both() -> None:
    assert len({question["id"] for question in QUESTIONS}) == 150
    assert Counter(question["split"] for question in QUESTIONS) == {"tune": 75, "held_out": 75}
    assert {question["kind"] for question in QUESTIONS} == KINDS
    assert {(question["kind"], question["split"]) for question in QUESTIONS} == {
        (kind, split) for kind in KINDS for split in ("tune", "held_out")
    }


def test_f16_the_first_64_questions_are_the_older_ones() -> None:
    assert [("tool" in question) for question in QUESTIONS] == [True] * 64 + [False] * 86
    assert (QUESTIONS[0]["id"], QUESTIONS[63]["id"]) == ("ko-weather-t1", "en-none-h7")


@pytest.mark.parametrize("question", [q for q in QUESTIONS if "calls" in q], ids=lambda question: question["id"])
def test_f16_a_question_can_be_judged(question: dict[str, Any]) -> None:
    patterns = [
        *question.get("contains", ()),
        question.get("excludes", ""),
        *[pattern for call in question["calls"] for pattern in call["args"].values()],
    ]
    assert all(re.compile(pattern) is not None for pattern in patterns)
    assert {call["tool"] for call in question["calls"]} <= {"get_weather", "search_web"}
    answered = all("result" in call for call in question["calls"])
    assert ("contains" in question) == answered, "a conversation that goes on to an answer says what is in it"


@pytest.mark.parametrize(
    ("question", "answers", "right"),
    [
        pytest.param({"calls": [wanted("Rome")]}, [called("Rome")], True, id="the call"),
        pytest.param({"calls": [wanted("Rome")]}, [called("Oslo")], False, id="another city"),
        pytest.param({"calls": [wanted("Rome")]}, [called("Rome", name="other")], False, id="another tool"),
        pytest.param({"calls": [wanted("Rome")]}, [AIMessage("It is warm.")], False, id="no call"),
        pytest.param({"calls": []}, [called("Rome")], False, id="a call that nobody wants"),
        pytest.param({"calls": []}, [AIMessage("Hello!")], True, id="text"),
        pytest.param({"calls": []}, [AIMessage('{"name": "get_weather"}')], False, id="a call as text"),
        pytest.param({"calls": [wanted("Rome"), wanted("Oslo")]}, [called("Oslo", "Rome")], True, id="two at once"),
        pytest.param({"calls": [wanted("Rome"), wanted("Oslo")]}, [called("Rome")], False, id="one of two"),
        pytest.param({"calls": [wanted("Rome")]}, [called("Rome", "Rome")], False, id="one twice"),
        pytest.param(
            {"calls": [wanted("Rome", result="warm", optional=True)], "contains": ["warm"]},
            [AIMessage("As I said, warm.")],
            True,
            id="a call that may be left out",
        ),
        pytest.param(
            {"calls": [wanted("Rome", result="warm"), wanted("Oslo", result="cold")], "contains": ["warm", "cold"]},
            [called("Rome"), called("Oslo"), AIMessage("Rome is warm, Oslo is cold.")],
            True,
            id="one after the other",
        ),
        pytest.param(
            {"calls": [wanted("Rome", result="warm"), wanted("Oslo", result="cold")]},
            [called("Rome"), AIMessage("Rome is warm.")],
            False,
            id="the second one missing",
        ),
        pytest.param({"tool": "get_weather", "city": ["Rome"]}, [called("Rome")], True, id="older: the call"),
        pytest.param({"tool": "get_weather", "city": ["Rome"]}, [called("Oslo")], False, id="older: another city"),
        pytest.param({"tool": None}, [AIMessage("Hello!")], True, id="older: text"),
        pytest.param({"tool": None}, [called("Rome")], False, id="older: a call that nobody wants"),
    ],
)
async def test_f16_a_conversation_is_right_or_wrong(
    question: dict[str, Any], answers: list[AIMessage], right: bool
) -> None:
    assert (await went(question, *answers))[0] == right


async def test_f16_the_model_gets_the_history_and_the_results_in_the_file() -> None:
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    question = {"history": history, "calls": [wanted("Rome", result="warm")]}
    _, shown = await went(question, called("Rome"), AIMessage("It is warm."))
    assert [message.type for message in shown] == ["human", "ai", "human", "ai", "tool"]
    assert isinstance(shown[-1], ToolMessage)
    assert (shown[-1].content, shown[-1].tool_call_id) == ("warm", "call_Rome")


@pytest.mark.parametrize(
    ("rule", "text", "right"),
    [
        ({"contains": ["def "]}, "```python\ndef f(): ...\n```", True),
        ({"contains": ["def ", "fib"]}, "```python\ndef f(): ...\n```", False),
        ({"excludes": "sorry"}, "Sorry, I only write code.", False),
        ({}, "", False),
        ({}, "안녕하세요", False),
        ({"answer": "any"}, "안녕하세요", True),
        ({"lang": "ko"}, "Hello", False),
    ],
)
def test_f16_an_answer_is_right_by_what_it_says(rule: dict[str, Any], text: str, right: bool) -> None:
    assert is_right_text({"lang": "en", **rule}, text) == right


@pytest.mark.parametrize(
    ("language", "text", "right"),
    [
        ("ko", "네, 비가 옵니다.", True),
        ("ko", "Python의 `len`입니다.", True),
        ("ko", "```python\nprint(1)\n```", True),
        ("ko", "今天天气很好입니다", False),
        ("en", "It is 3 °C in 서울.", False),
        ("en", "12", True),
    ],
)
def test_f16_the_language_of_an_answer_is_that_of_its_prose(language: str, text: str, right: bool) -> None:
    assert is_in_language(language, text) == right


def test_f16_the_score_is_told_for_each_kind_split_and_language() -> None:
    questions: list[dict[str, Any]] = [
        {"id": "a", "kind": "code", "split": "tune", "lang": "ko", "tool": None},
        {"id": "b", "kind": "code", "split": "tune", "lang": "en"},
    ]
    assert [" ".join(line.split()) for line in score_lines(questions, {"a": 1, "b": 0})] == [
        "kind code 1 of 2 = 50%",
        "split tune 1 of 2 = 50%",
        "lang ko 1 of 1 = 100%",
        "lang en 0 of 1 = 0%",
        "first 64 1 of 1 = 100%",
        "all 1 of 2 = 50%",
    ]
