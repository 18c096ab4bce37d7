"""Convert OpenAI's messages to LangChain's, and back. Pure."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from graph.history import all_calls
from graph.model.answer import REFUSAL
from graph.model.arguments import dump_arguments
from graph.model.calls import load_call
from server.errors import InvalidRequest
from server.messages.shapes import ContentPart, File, Message
from server.messages.tool_results import UnpairedMessage

USER_PARTS = ("text", "image_url", "file", "input_audio")
TOOL_PARTS = ("text", "image_url")
# With other addresses, such as file:, a model endpoint may read its own disk.
IMAGE_URL = re.compile(r"(https?://|data:)[^\r\n]+", re.IGNORECASE)
FILE_DATA = re.compile(r"data:|[A-Za-z0-9+/_-]+={0,2}$", re.IGNORECASE)


def load_messages(messages: Sequence[Message]) -> list[AnyMessage]:
    """Return the messages in LangChain's types, each with an id of its own.

    Raises:
        InvalidRequest: a message lacks what its role needs.
    """
    request = uuid4().hex
    return [load_message(message, f"messages[{at}]", f"{request}-{at}") for at, message in enumerate(messages)]


def instructions(messages: Sequence[AnyMessage]) -> tuple[str, ...]:
    """Return the texts of the system messages; they apply to this turn only."""
    return tuple(str(message.text) for message in messages if isinstance(message, SystemMessage))


def unpaired(messages: Sequence[AnyMessage], error: UnpairedMessage) -> InvalidRequest:
    """Return the error for calls and results in the messages that do not fit together."""
    position = next((index for index, message in enumerate(messages) if message is error.at), None)
    param = "messages" if position is None else f"messages.[{position}].role"
    return InvalidRequest(str(error), param=param)


def dump_messages(messages: Sequence[AnyMessage]) -> list[Message]:
    """Return the messages in OpenAI's form, tool calls and their results included."""
    return [Message.model_validate(_dump(message)) for message in messages]


def _dump(message: AnyMessage) -> dict[str, Any]:
    match message:
        case AIMessage():
            return {"role": "assistant", **_dump_answer(message)}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
        case SystemMessage():
            return {"role": "system", "content": message.content}
        case _:
            return {"role": "user", "content": message.content}


def _dump_answer(message: AIMessage) -> dict[str, Any]:
    if REFUSAL in message.additional_kwargs:
        return {"content": None, "refusal": str(message.text)}
    calls = [_dump_call(call) for call in all_calls(message)]
    content = str(message.text) or (None if calls else "")
    return {"content": content} | ({"tool_calls": calls} if calls else {})


def _dump_call(call: ToolCall | InvalidToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": dump_arguments(call)}
    return {"id": call["id"], "type": "function", "function": function}


def load_message(message: Message, param: str, new_id: str) -> AnyMessage:
    """Return a message in LangChain's types; `param` is its place in the request.

    Raises:
        InvalidRequest: it lacks what its role needs.
    """
    match message.role:
        case "system" | "developer":
            return SystemMessage(_text(message, param), id=new_id)
        case "user":
            return HumanMessage(_content(message, param, USER_PARTS), name=message.name, id=new_id)
        case "assistant":
            return _load_assistant(message, param, new_id)
        case "tool" if message.tool_call_id:
            content = _content(message, param, TOOL_PARTS)
            return ToolMessage(content, tool_call_id=message.tool_call_id, id=new_id)
        case "tool":
            raise _missing(f"{param}.tool_call_id")
        case "function":
            raise InvalidRequest(
                "Messages with role 'function' are not supported; use 'tool'.",
                param=f"{param}.role",
                code="unsupported_value",
            )


def _load_assistant(message: Message, param: str, new_id: str) -> AIMessage:
    calls = [load_call(call.function.name, call.function.arguments, call.id) for call in message.tool_calls or ()]
    refusal = message.refusal or ""
    content = refusal if message.content is None else _text(message, param) or refusal
    return AIMessage(
        content,
        tool_calls=[call for call in calls if call["type"] == "tool_call"],
        invalid_tool_calls=[call for call in calls if call["type"] == "invalid_tool_call"],
        name=message.name,
        id=new_id,
    )


def _content(message: Message, param: str, kinds: Sequence[str]) -> str | list[str | dict[str, object]]:
    """Return text parts as one string, which every endpoint accepts; with images or files, parts stay parts."""
    if not isinstance(message.content, list) or all(part.type == "text" for part in message.content):
        return _text(message, param)
    return [_part(part, f"{param}.content[{index}]", kinds) for index, part in enumerate(message.content)]


def _part(part: ContentPart, param: str, kinds: Sequence[str]) -> str | dict[str, object]:
    """Return a part with its known fields, if it is of one of these kinds; nothing is fetched from addresses in it."""
    if part.type not in kinds:
        raise InvalidRequest(
            f"Invalid value: '{part.type[:100]}'. Supported values are: {', '.join(map(repr, kinds))}.",
            param=f"{param}.type",
            code="invalid_value",
        )
    content = part.model_dump(include={"type", part.type}, exclude_none=True)
    if part.type not in content:
        raise _missing(f"{param}.{part.type}")
    if part.image_url and not IMAGE_URL.fullmatch(part.image_url.url):
        raise InvalidRequest(
            f"Invalid '{param}.image_url': expected an http, https or data URL.",
            param=f"{param}.image_url",
            code="invalid_image_url",
        )
    if part.type == "file" and part.file:
        _check_file(part.file, f"{param}.file")
    return content


def _check_file(file: File, param: str) -> None:
    if not (file.file_data or file.file_id):
        raise _missing(f"{param}.file_data")
    if file.file_data and not FILE_DATA.match(file.file_data):
        message = f"Invalid '{param}.file_data': expected base64 or a data URL."
        raise InvalidRequest(message, param=f"{param}.file_data", code="invalid_value")


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _text(message: Message, param: str) -> str:
    match message.content:
        case str(text):
            return text
        case list(parts):
            return "\n".join(_part_text(part, f"{param}.content[{index}]") for index, part in enumerate(parts))
        case None:
            raise _missing(f"{param}.content")


def _part_text(part: ContentPart, param: str) -> str:
    text = part.text if part.type == "text" else part.refusal
    if text is None and part.type == "text":
        raise _missing(f"{param}.text")
    if text is None:
        raise InvalidRequest(
            f"Invalid value: '{part.type[:100]}'. Supported values are: 'text'.",
            param=f"{param}.type",
            code="invalid_value",
        )
    return text
