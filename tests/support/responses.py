"""The Responses API, as curl and a program would use it."""

import json
from typing import Any

import httpx

from tests.support.agent_server import CERTIFICATES, MODEL, AgentServer
from tests.support.upstream import Json

ASK: Json = {
    "type": "function",
    "name": "ask_user",
    "description": "Ask the user something.",
    "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
    "strict": False,
}


def post(
    server: AgentServer, *, headers: dict[str, str] | None = None, timeout: float = 30, **fields: Any
) -> httpx.Response:
    """Post a request for a response."""
    body = {"model": MODEL, "input": "hello", **fields}
    return httpx.post(f"{server.url}/v1/responses", json=body, headers=headers, timeout=timeout, verify=CERTIFICATES)


def create(server: AgentServer, *, headers: dict[str, str] | None = None, **fields: Any) -> Json:
    """Return a response."""
    answer = post(server, headers=headers, **fields)
    assert answer.status_code == 200, answer.text
    response: Json = answer.json()
    return response


def refused(server: AgentServer, **fields: Any) -> tuple[int, str | None, str | None]:
    """Return the status, the parameter and the code of a refusal."""
    answer = post(server, **fields)
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


def get(server: AgentServer, path: str, **params: Any) -> httpx.Response:
    """Get what is under /v1/responses."""
    return httpx.get(f"{server.url}/v1/responses/{path}", params=params, verify=CERTIFICATES)


def events_of(server: AgentServer, **fields: Any) -> list[Json]:
    """Return the events of a streamed response, each of which is framed as it must be."""
    text = post(server, stream=True, **fields).text
    frames = text.split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    return [event_of(frame) for frame in frames]


def event_of(frame: str) -> Json:
    """Return the event of a frame: its name, and one line of data."""
    name, data = frame.split("\n")
    event: Json = json.loads(data.removeprefix("data: "))
    assert name == f"event: {event['type']}"
    return event


def text_of(response: Json) -> str:
    """Return the text of a response's last message."""
    message = next(item for item in reversed(response["output"]) if item["type"] == "message")
    return str(message["content"][0]["text"])


def user(text: str) -> Json:
    """Return a message of the user."""
    return {"type": "message", "role": "user", "content": text}


def reference(item: Json) -> Json:
    """Return a reference to an item."""
    return {"type": "item_reference", "id": item["id"]}


def output(call_id: str, text: object) -> Json:
    """Return the result of a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": text}
