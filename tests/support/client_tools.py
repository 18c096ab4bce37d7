"""Tools of the client's, calls of them and their results."""

from typing import Any

from openai.types.chat import ChatCompletionFunctionToolParam

from tests.support.agent_server import MODEL, AgentServer
from tests.support.upstream import Json

ASK: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "ask_user",
        "description": "Ask the user something.",
        "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
    },
}


QUESTION = {"role": "user", "content": "Paint it."}


def asked(server: AgentServer, messages: list[Json], **fields: Any) -> Json:
    """The choice that the server answers with, in the session `s`."""
    body = {"model": MODEL, "messages": messages, "tools": [ASK], "session_id": "s", **fields}
    response = server.post(body)
    assert response.status_code == 200, response.text
    choice: Json = response.json()["choices"][0]
    return choice


def result(call: Json, text: str) -> Json:
    return {"role": "tool", "tool_call_id": call["id"], "content": text}


def calling(*ids: str) -> Json:
    calls = [{"id": id_, "type": "function", "function": {"name": "ask_user", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answer(call: str) -> Json:
    return {"role": "tool", "tool_call_id": call, "content": "blue"}


def allowed(mode: str, *names: str) -> Json:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
