"""Read the conversations that LangServe's clients send. Pure.

They send messages in each of the forms that LangChain takes: a text, a role with a content, OpenAI's or LangChain's own
objects, and those as they are serialised. In OpenAI's form they are checked as any other client's are.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from pydantic import BaseModel, Field, ValidationError

from server.errors import InvalidRequest
from server.http.complaints import NOT_JSON, invalid_body
from server.messages.convert import load_messages
from server.messages.shapes import Message

KINDS = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}
CLASSES = {"Human": "user", "AI": "assistant", "System": "system", "Tool": "tool", "Function": "function"}
ROLES = {
    **KINDS,
    **{f"{name}Message": role for name, role in CLASSES.items()},
    **{f"{name}MessageChunk": role for name, role in CLASSES.items()},
}


class OpenAIConversation(BaseModel):
    """The messages in OpenAI's form."""

    messages: Annotated[list[Message], Field(min_length=1)]


def load_conversation(body: Any) -> list[AnyMessage]:
    """Return the messages of a request's `input`, each with an id of its own.

    Raises:
        InvalidRequest: the input is not a conversation.
    """
    if not isinstance(body, dict):
        raise InvalidRequest(NOT_JSON)
    if "input" not in body:
        message = "Missing required parameter: 'input'."
        raise InvalidRequest(message, param="input", code="missing_required_parameter")
    try:
        loaded = OpenAIConversation.model_validate(_conversation(body["input"])).messages
    except ValidationError as error:
        raise invalid_body(error.errors()) from error
    for position, given in enumerate(loaded):
        if isinstance(given.content, list) and any(part.type not in ("text", "refusal") for part in given.content):
            raise InvalidRequest(
                "Only text can be sent here; for images and files use /v1/chat/completions.",
                param=f"messages[{position}].content",
                code="unsupported_value",
            )
    return load_messages(loaded)


def _conversation(given: object) -> object:
    match given:
        case {"messages": list(messages)} | list(messages):
            return {"messages": [as_openai(message) for message in messages]}
        case {"messages": message}:
            return {"messages": [as_openai(message)]}
        case str() | {"role": _} | {"type": _}:
            return {"messages": [as_openai(given)]}
        case _:
            return given


def as_openai(message: object) -> object:
    """Return a message in OpenAI's form; other values are returned unchanged."""
    match message:
        case str():
            return {"role": "user", "content": message}
        case [str(role), content]:
            return as_openai({"role": role, "content": content})
        case {"lc": 1, "type": "constructor", "id": [*_, str(kind)], "kwargs": dict(fields)}:
            return as_openai({**fields, "role": kind})
        case {"type": str(kind), "data": dict(fields)}:
            return as_openai({**fields, "role": kind})
        case dict():
            return _object_as_openai(message)
        case _:
            return message


def _object_as_openai(message: Mapping[str, Any]) -> dict[str, Any]:
    dumped = {name: message[name] for name in ("name", "tool_call_id") if message.get(name) is not None}
    if (role := message.get("role", message.get("type"))) is not None:
        dumped["role"] = ROLES.get(role, role) if isinstance(role, str) else role
    if "content" in message:
        content = "" if message["content"] is None else message["content"]
        dumped["content"] = [_part(part) for part in content] if isinstance(content, list) else content
    calls, malformed = (message.get(name) or [] for name in ("tool_calls", "invalid_tool_calls"))
    if isinstance(calls, list) and isinstance(malformed, list):
        calls = [_call(call) for call in [*calls, *malformed]]
    return dumped | ({"tool_calls": calls} if calls else {})


def _part(part: object) -> object:
    return {"type": "text", "text": part} if isinstance(part, str) else part


def _call(call: object) -> object:
    """LangChain's calls have their arguments as values; those that are no JSON are texts."""
    if not isinstance(call, dict) or "function" in call:
        return call
    arguments = call.get("args")
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    return {"id": call.get("id"), "type": "function", "function": {"name": call.get("name"), "arguments": text}}
