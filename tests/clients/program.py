"""What the programs in Python share: the scenarios, and one JSON line for what each shows the client's user.

A way to ask takes a question and yields what the user sees of the answer, in order: `("text", …)` and `("call", …)`,
which is the name of a tool that the client is to run. Where a client has conversations, a way to fork asks a first
question, a second one, and then a third one after the first, and yields what the user sees of the last answer.
Where a client can show that a call of the server's tool waits, a way to approve yields `("call", …)` for it too.
"""

import gc
import json
import sys
from collections.abc import Callable, Generator
from typing import Any

Event = tuple[str, str]
Events = Generator[Event, None, None]
Way = Callable[[str], Events]
Fork = Callable[[str, str, str], Events]

BASE_URL, SCENARIOS = sys.argv[1], sys.argv[2:]
MODEL = "test-model"
QUESTIONS = ("fork one", "fork two", "fork three")


def ask_user(question: str) -> str:
    """Ask the user something."""
    return f"{question} Blue."


ASK_USER: Any = {
    "type": "function",
    "function": {
        "name": "ask_user",
        "description": "Ask the user something.",
        "parameters": {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
    },
}


def run(
    *,
    ask: Way,
    stream: Way,
    ask_with_tool: Way,
    stream_with_tool: Way,
    fork: Fork | None = None,
    stream_fork: Fork | None = None,
    approve: Way | None = None,
    stream_approve: Way | None = None,
) -> None:
    """Print what the scenarios of the command line show, and stay until standard input ends."""
    for scenario in SCENARIOS:
        if scenario == "stop":
            seen = {"streamed": stopped(stream(scenario))}
        elif scenario == "client_tool":
            seen = {"whole": outcome(ask_with_tool(scenario)), "streamed": outcome(stream_with_tool(scenario))}
        elif scenario == "approve":
            assert approve
            assert stream_approve
            seen = {"whole": outcome(approve(scenario)), "streamed": outcome(stream_approve(scenario))}
        elif scenario == "fork":
            assert fork
            assert stream_fork
            seen = {"whole": outcome(fork(*QUESTIONS)), "streamed": outcome(stream_fork(*QUESTIONS))}
        else:
            seen = {"whole": outcome(ask(scenario)), "streamed": outcome(stream(scenario))}
        print(json.dumps({"scenario": scenario, **seen}), flush=True)
    sys.stdin.read()  # a process that ends closes its connections, whatever its client did about them


def outcome(events: Events) -> dict[str, Any]:
    """Return all that the user saw, an error included."""
    seen: dict[str, Any] = {"text": "", "calls": []}
    try:
        for kind, value in events:
            if kind == "text":
                seen["text"] += value
            else:
                seen["calls"].append(value)
    except Exception as error:  # whatever it is, the user gets it
        seen["error"] = {
            "type": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "message": str(error),
        }
    return seen


def stopped(events: Events) -> dict[str, Any]:
    """Return the text up to its second word, and leave the rest."""
    text = ""
    for _, value in events:
        text += value
        if len(text.split()) >= 2:
            break
    events.close()
    gc.collect()  # which is when clients without a way to close a stream close it
    return {"text": text}
