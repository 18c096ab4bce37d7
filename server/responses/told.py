"""What the frames of a stream have told. Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

END = b"\n\n"


def split(frames: bytes) -> list[bytes]:
    """Return each of several frames."""
    return [encoded + END for encoded in frames.split(END) if encoded]


def events_in(frames: bytes) -> Iterator[Json]:
    """Yield the events of frames."""
    for encoded in split(frames):
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
            case {"type": "response.reasoning_summary_part.added", "part": part}:
                items[event["output_index"]]["summary"].append(part)
            case {"type": "response.reasoning_summary_text.delta", "delta": piece}:
                items[event["output_index"]]["summary"][-1]["text"] += piece
            case {"arguments": str(arguments)}:
                items[event["output_index"]]["arguments"] = arguments
    return [_broken_off(item) for _, item in sorted(items.items())]


def _broken_off(item: Json) -> Json:
    return {**item, "status": "incomplete"} if item.get("status", "in_progress") == "in_progress" else item
