"""How often the embedded model picks the right tool: `make eval`.

Each question of tool_choice.jsonl is asked once, through the agent's own prompt, model client and the bundled server's
tool descriptions, at the default temperature. It is right when the first message calls the tool that it should, for
the city that was asked for, or calls none and is plain text. The half "held_out" was not looked at while the template
was written.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from graph.embedded import EmbeddedModel
from graph.factory import mcp_connections
from graph.model import open_model
from graph.prompts import layered_prompt
from graph.settings import AgentSettings
from graph.weights import find_weights
from tools.mcp_client import Toolbox

QUESTIONS = Path(__file__).with_name("tool_choice.jsonl")
MAX_TOKENS = 200

Question = Mapping[str, Any]


def main() -> None:
    """Ask all questions and print the share of right choices; exit with 1 below 90 %."""
    questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    with EmbeddedModel(find_weights()) as endpoint:
        settings = AgentSettings(
            ollama_model="embedded", ollama_base_url=endpoint.base_url, ollama_api_key=endpoint.api_key
        )
        right = asyncio.run(ask_all(questions, settings))
    for group in ("split", "lang", "tool"):
        for name in sorted({str(question[group]) for question in questions}):
            members = [question["id"] for question in questions if str(question[group]) == name]
            print(f"{group:6} {name:12} {sum(right[member] for member in members):3} of {len(members)}")
    score = sum(right.values()) / len(questions)
    print(f"all    {sum(right.values())} of {len(questions)} = {score:.0%}")
    sys.exit(score < 0.9)


async def ask_all(questions: Sequence[Question], settings: AgentSettings) -> Counter[str]:
    """Return which questions led to the right choice, as 0 or 1 under their ids; print the others."""
    right: Counter[str] = Counter()
    async with Toolbox(mcp_connections(settings)) as toolbox, open_model(settings) as model:
        await toolbox.settled()
        system = SystemMessage(layered_prompt(settings.system_prompt, (), datetime.now().date()))
        for question in questions:
            messages = [system, HumanMessage(question["question"])]
            answer = await model.answer(messages, tools=toolbox, parameters={"max_completion_tokens": MAX_TOKENS})
            right[question["id"]] = is_right(question, answer)
            if not right[question["id"]]:
                print(f"wrong  {question['question']}  ->  {answer.tool_calls or answer.text}", flush=True)
    return right


def is_right(question: Question, answer: AIMessage) -> bool:
    """Whether the first message of the model is the one that the question calls for."""
    calls = answer.tool_calls
    if question["tool"] is None:
        return not calls and bool(answer.text) and not answer.text.lstrip().startswith(("{", "[tool_call]"))
    cities = question.get("city")
    return (
        bool(calls)
        and {call["name"] for call in calls} == {question["tool"]}
        and (not cities or any(call["args"].get("city") in cities for call in calls))
    )


if __name__ == "__main__":
    main()
