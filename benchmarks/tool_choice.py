"""How well the demo's model answers: `make eval`.

The questions of tool_choice.jsonl are asked one after the other, through the agent's own prompt and model client, with
the bundled server's tools on offer and the demo's temperature of 0. The tools are not run: what they would answer is in
the file, so that there is no network in it and the right numbers are known.

A line of the file holds a `question` and the `history` before it, the `calls` that the model has to make (in one
message or one after the other; arguments are patterns), the `result` that it gets for each, and what its answer
`contains` and what it `excludes`. The answer must also be in the question's language. A call without a result ends the
conversation. The first 64 lines are older: they say which `tool` the first message calls, for which `city`.

The half "held_out" was not looked at while the template was written.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    convert_to_messages,
)

from graph.assembly import open_tools
from graph.model.client import open_model
from graph.offline.process import EmbeddedModel
from graph.offline.settings import EMBEDDED, answered_by
from graph.offline.weights import find_weights
from graph.prompts import layered_prompt
from graph.settings import AgentSettings

QUESTIONS = Path(__file__).with_name("tool_choice.jsonl")
TODAY = date(2026, 11, 26)  # the day of the weather in the file; the prompt names it
MAX_TOKENS = 400
PASSED = 0.9
OLDER, OLDER_RIGHT = "first 64", 62

CODE = re.compile(r"```.*?(```|$)|`[^`]*`", re.DOTALL)
HANGUL = re.compile(r"[가-힣]")
OTHER_SCRIPT = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")  # kana and Chinese characters

Question = Mapping[str, Any]
Ask = Callable[[Sequence[BaseMessage]], Awaitable[AIMessage]]


def main() -> None:
    """Ask all questions and print the scores; exit with 1 below 90 % or where the first 64 have become worse."""
    questions = load_questions()
    with EmbeddedModel(find_weights()) as endpoint:
        right = asyncio.run(ask_all(questions, answered_by(endpoint, AgentSettings(**EMBEDDED))))
    print(*score_lines(questions, right), sep="\n")
    older = sum(right[question["id"]] for question in questions if "tool" in question)
    sys.exit(right.total() < PASSED * len(questions) or older < OLDER_RIGHT)


def load_questions() -> list[Question]:
    """Return the lines of the file."""
    return [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]


async def ask_all(questions: Sequence[Question], settings: AgentSettings) -> Counter[str]:
    """Return which questions went right, as 0 or 1 under their ids; print the others."""
    right: Counter[str] = Counter()
    async with open_tools(settings) as toolbox, open_model(settings) as model:
        await toolbox.settled()
        system = SystemMessage(layered_prompt(settings.system_prompt, (), TODAY))
        limit = {"max_completion_tokens": MAX_TOKENS}

        async def ask(messages: Sequence[BaseMessage]) -> AIMessage:
            return await model.answer([system, *messages], tools=toolbox, parameters=limit)

        for question in questions:
            right[question["id"]], answer = await judged(question, ask)
            if not right[question["id"]]:
                said = [(call["name"], call["args"]) for call in answer.tool_calls] or answer.text
                print(f"wrong  {question['id']}  {question['question']}  ->  {said}", flush=True)
    return right


async def judged(question: Question, ask: Ask) -> tuple[bool, AIMessage]:
    """Hold the conversation that a question begins; return whether it went right, and its last message."""
    messages: list[BaseMessage] = [
        *convert_to_messages(question.get("history", ())),
        HumanMessage(question["question"]),
    ]
    if "tool" in question:
        answer = await ask(messages)
        return is_right_choice(question, answer), answer
    missing = list(question["calls"])
    while calls := (answer := await ask(messages)).tool_calls:
        wanted = wanted_calls(calls, missing)
        if wanted is None:
            return False, answer
        missing = [call for call in missing if call not in wanted]
        if any("result" not in call for call in wanted):
            return not missing, answer
        messages += [answer, *map(_result, calls, wanted)]
    return all("optional" in call for call in missing) and is_right_text(question, answer.text), answer


def is_right_choice(question: Question, answer: AIMessage) -> bool:
    """Whether a first message calls the tool that it should, for the city asked about, or is text if it should not."""
    calls = answer.tool_calls
    if question["tool"] is None:
        return not calls and is_text(answer.text)
    cities = question.get("city")
    return (
        bool(calls)
        and {call["name"] for call in calls} == {question["tool"]}
        and (not cities or any(call["args"].get("city") in cities for call in calls))
    )


def wanted_calls(calls: Sequence[ToolCall], missing: Sequence[Question]) -> list[Question] | None:
    """Return for each call the missing one that it is, or None if there is one that nobody wants."""
    wanted: list[Question] = []
    for call in calls:
        fitting = [other for other in missing if other not in wanted and _fits(call, other)]
        if not fitting:
            return None
        wanted.append(fitting[0])
    return wanted


def is_right_text(question: Question, text: str) -> bool:
    """Whether an answer says what it must, in the question's language, and nothing that it must not."""
    found = partial(re.search, string=text, flags=re.IGNORECASE | re.DOTALL | re.MULTILINE)
    return (
        is_text(text)
        and is_in_language(question.get("answer", question["lang"]), text)
        and all(found(pattern) for pattern in question.get("contains", ()))
        and not ("excludes" in question and found(question["excludes"]))
    )


def is_text(text: str) -> bool:
    """Whether there is an answer, and no tool call that the model wrote as text."""
    return bool(text.strip()) and not text.lstrip().startswith("{") and "[tool_call]" not in text


def is_in_language(language: str, text: str) -> bool:
    """Whether an answer's prose is in Korean ("ko"), in English ("en") or in either ("any")."""
    prose = CODE.sub("", text)
    if language == "any" or not re.search(r"[^\W\d_]", prose):
        return True
    return not OTHER_SCRIPT.search(prose) and bool(HANGUL.search(prose)) == (language == "ko")


def score_lines(questions: Sequence[Question], right: Mapping[str, int]) -> list[str]:
    """Return a line for each kind, split and language, for the first 64 and for all."""
    groups = {
        f"{group} {name}": [question for question in questions if question[group] == name]
        for group in ("kind", "split", "lang")
        for name in dict.fromkeys(question[group] for question in questions)
    }
    groups[OLDER] = [question for question in questions if "tool" in question]
    groups["all"] = list(questions)
    return [_score_line(name, [right[question["id"]] for question in them]) for name, them in groups.items() if them]


def _score_line(name: str, marks: Sequence[int]) -> str:
    return f"{name:20} {sum(marks):3} of {len(marks):3} = {sum(marks) / len(marks):.0%}"


def _fits(call: ToolCall, wanted: Question) -> bool:
    return call["name"] == wanted["tool"] and all(
        re.search(pattern, str(call["args"].get(name)), re.IGNORECASE) for name, pattern in wanted["args"].items()
    )


def _result(call: ToolCall, wanted: Question) -> ToolMessage:
    return ToolMessage(wanted["result"], tool_call_id=call["id"], name=call["name"])


if __name__ == "__main__":
    main()
