"""A tool's result as the model gets it: one text, or texts and images in order. Pure.

The text is bounded, because a model reads it and a checkpoint keeps it.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.tools import ToolException

from tools.printed import without

MAX_TEXT = 64_000
MAX_IMAGE, MAX_IMAGES = 5_000_000, 20_000_000
# What vision models take; anything else is named instead.
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
NO_REASON = "The tool failed without saying why."

Block = dict[str, Any]
Content = str | list[str | Block]


class ToolError(ToolException):
    """A tool's own error, in its words."""

    error_type = "tool_error"
    """What traces call it."""


def content_of(result: Mapping[str, Any], secrets: Sequence[str] = ()) -> Content:
    """Return a tool's result as the content of its message: text, or blocks where it has images.

    Raises:
        ToolError: the result is an error, which is told without the secrets.
    """
    if result.get("isError") is True:
        raise ToolError(_complaint(result, secrets))
    blocks = bounded(list(_blocks(_items(result.get("content")))))
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    if any(block["type"] != "text" for block in blocks):
        return [*blocks]
    return text if text.strip() else cut_text(_structured_text(result)) or text


def _complaint(result: Mapping[str, Any], secrets: Sequence[str]) -> str:
    """Return an error's words; secrets are taken out before the text is cut, which could leave half of one."""
    said = [block["text"] for block in _blocks(_items(result.get("content"))) if block["type"] == "text"]
    text = "\n".join(said)
    return cut_text(without(secrets, text if text.strip() else _structured_text(result))) or NO_REASON


def bounded(blocks: Sequence[Block]) -> list[Block]:
    """Join adjacent texts and bound the whole: a long text keeps its two ends, and only the first images stay."""
    joined = _joined(list(_without_big_images(blocks)))
    length = sum(len(block["text"]) for block in joined if block["type"] == "text")
    if length <= MAX_TEXT:
        return joined
    share = MAX_TEXT / length
    return [
        {"type": "text", "text": cut_text(block["text"], int(len(block["text"]) * share))}
        if block["type"] == "text"
        else block
        for block in joined
    ]


def cut_text(text: str, length: int = MAX_TEXT) -> str:
    """Return a text of about this length at the most: beginning, end, and how much is left out between them."""
    half = length // 2
    left_out = len(text) - 2 * half
    return (
        text
        if len(text) <= length
        else f"{text[:half]}\n[… {left_out} characters left out …]\n{text[-half:] if half else ''}"
    )


def _joined(blocks: Sequence[Block]) -> list[Block]:
    joined: list[Block] = []
    texts: list[str] = []
    for block in [*blocks, None]:
        if block is not None and block["type"] == "text":
            texts.append(block["text"])
            continue
        if texts:
            joined.append({"type": "text", "text": "\n".join(texts)})
            texts = []
        if block is not None:
            joined.append(block)
    return joined


def _without_big_images(blocks: Sequence[Block]) -> Iterator[Block]:
    room = MAX_IMAGES
    for block in blocks:
        size = len(block["image_url"]["url"]) if block["type"] == "image_url" else 0
        if size > MAX_IMAGE or size > room:
            yield _note(f"an image of {size // 1000} kB, which is too large")
        else:
            room -= size
            yield block


def _items(content: object) -> Sequence[object]:
    return content if isinstance(content, list) else () if content is None else (content,)


def _blocks(items: Sequence[object]) -> Iterator[Block]:
    for item in items:
        match item:
            case str(text) | {"type": "text", "text": str(text)}:
                yield {"type": "text", "text": text}
            case {"type": "image", "data": str(data), **more}:
                yield _image(data, str(more.get("mimeType") or "image/png"), "image content")
            case {"type": "resource", "resource": dict(resource)}:
                yield _resource(resource)
            case {"type": "resource_link", "uri": str(uri), **more}:
                yield {"type": "text", "text": _link(uri, more)}
            case {"type": str(kind)}:
                yield _note(f"{kind} content, which cannot be shown as text")
            case _:
                yield _note("content of an unknown kind, which cannot be shown as text")


def _resource(resource: Mapping[str, Any]) -> Block:
    uri, kind = resource.get("uri"), resource.get("mimeType")
    match resource:
        case {"text": str(text)}:
            return {"type": "text", "text": text}
        case {"blob": str(blob)} if kind in IMAGE_TYPES:
            return _image(blob, str(kind), f"resource {uri}")
        case _:
            return _note(f"resource {uri}{f' ({kind})' if kind else ''}, which cannot be shown as text")


def _link(uri: str, link: Mapping[Any, Any]) -> str:
    name, about = link.get("title") or link.get("name"), link.get("description")
    return f"{f'{name}: ' if name else ''}{uri}{f' ({about})' if about else ''}"


def _image(data: str, kind: str, what: str) -> Block:
    """Return an image for a model, if it can be read: endpoints would refuse every later turn for a broken one."""
    plain = "".join(data.rpartition("base64,")[2].split())
    try:
        base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        return _note(f"{what}, which is damaged")
    if kind.lower() not in IMAGE_TYPES or not plain:
        return _note(f"{what} ({kind}), which cannot be shown")
    return {"type": "image_url", "image_url": {"url": f"data:{kind.lower()};base64,{plain}"}}


def _note(what: str) -> Block:
    return {"type": "text", "text": f"[{what}]"}


def _structured_text(result: Mapping[str, Any]) -> str:
    structured = result.get("structuredContent")
    return "" if structured is None else json.dumps(structured, ensure_ascii=False)
