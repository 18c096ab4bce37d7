"""What the frames of a stream have told. Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]


def events_in(frames: bytes) -> Iterator[Json]:
    """Yield the events of frames."""
    for encoded in frames.split(b"\n\n"):
        if encoded:
            yield json.loads(encoded.partition(b"\ndata: ")[2])


def items_told(events: Iterable[Json]) -> list[Json]:
    """Return the items of a stream that broke off; those that had not ended are incomplete, with what they said."""
    items: dict[int, Json] = {}
    for event in events:
        match event:
            case {"type": "response.output_item.added" | "response.output_item.done", "item": item}:
                items[event["output_index"]] = item
            case {"type": "response.content_part.added", "part": part}:
                items[event["output_index"]]["content"].append(part)
            case {"type": "response.output_text.delta" | "response.refusal.delta", "delta": piece}:
                part = items[event["output_index"]]["content"][-1]
                part["text" if part["type"] == "output_text" else "refusal"] += piece
    return [_broken_off(item) for _, item in sorted(items.items())]


def _broken_off(item: Json) -> Json:
    return {**item, "status": "incomplete"} if item.get("status", "in_progress") == "in_progress" else item
