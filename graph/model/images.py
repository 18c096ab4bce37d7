"""Images in the results of tools, as model endpoints take them. Pure."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

LEFT_OUT = "[An image, which the model cannot see, is left out.]"


def with_tool_images(messages: Sequence[BaseMessage], *, shown: bool) -> list[BaseMessage]:
    """Return the messages with text alone in results of tools.

    Endpoints take images only from users. So where they are `shown`, a user message with the images follows the results
    of a step; otherwise each is named as left out.
    """
    told: list[BaseMessage] = []
    images: list[str | dict[str, Any]] = []
    for message in messages:
        if not isinstance(message, ToolMessage) and images:
            told.append(_from_tools(images))
            images = []
        if isinstance(message, ToolMessage) and isinstance(message.content, list):
            found = [part for part in message.content if is_image(part)]
            images += found if shown else []
            left_out = [] if shown else [LEFT_OUT] * len(found)
            message = message.model_copy(update={"content": "\n".join([*_texts(message.content), *left_out])})
        told.append(message)
    return [*told, _from_tools(images)] if images else told


def has_tool_images(messages: Sequence[BaseMessage]) -> bool:
    """Whether a result of a tool has an image in it."""
    results = (message.content for message in messages if isinstance(message, ToolMessage))
    return any(is_image(part) for content in results if isinstance(content, list) for part in content)


def is_image(part: object) -> bool:
    """Whether a part of a message's content is an image."""
    return isinstance(part, dict) and part.get("type") == "image_url"


def _texts(content: Sequence[str | dict[Any, Any]]) -> list[str]:
    texts = (part if isinstance(part, str) else part.get("text") for part in content)
    return [text for text in texts if text]


def _from_tools(images: Sequence[str | dict[str, Any]]) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": "The images in the results of the tools:"}, *images])
