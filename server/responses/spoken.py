"""What is being said in a response: a message or a thought, piece by piece, and the events that tell it. Pure."""

from collections.abc import Iterator
from typing import Any, Literal

from server.sessions.speech import pieces

Json = dict[str, Any]
Kept = Literal["completed", "incomplete"]


class Said:
    """A message that is being said: text, or a refusal, or one after the other."""

    def __init__(self, place: int, message_id: str | None) -> None:
        self.place, self.message_id = place, message_id
        self._parts: list[Json] = []
        self._pieces: list[str] = []

    def say(self, kind: str, text: str) -> Iterator[Json]:
        """Add text, or a refusal."""
        if not self._parts or self._parts[-1]["type"] != kind:
            yield from self.end()
            self._parts.append(_part(kind, ""))
            yield {
                "type": "response.content_part.added",
                "content_index": len(self._parts) - 1,
                "part": self._parts[-1],
            }
        self._pieces.append(text)
        index = len(self._parts) - 1
        more: Json = {"logprobs": []} if kind == "output_text" else {}
        for piece in pieces(text):
            yield {"type": f"response.{kind}.delta", "content_index": index, "delta": piece, **more}

    def end(self) -> Iterator[Json]:
        """End the part that is being said."""
        if not self._pieces:
            return
        kind, text, index = self._parts[-1]["type"], "".join(self._pieces), len(self._parts) - 1
        self._pieces = []
        self._parts[-1] = _part(kind, text)
        said = {"text": text, "logprobs": []} if kind == "output_text" else {"refusal": text}
        yield {"type": f"response.{kind}.done", "content_index": index, **said}
        yield {"type": "response.content_part.done", "content_index": index, "part": self._parts[-1]}

    def whole(self, status: Kept, phase: str) -> Json:
        """Return what its item has at the end."""
        return {"content": self._parts, "status": status, "phase": phase}


class Thought:
    """The model's reasoning, which comes before what it says, and is told as one summary."""

    def __init__(self, place: int, message_id: str | None) -> None:
        self.place, self.message_id = place, message_id
        self._pieces: list[str] = []

    def say(self, text: str) -> Iterator[Json]:
        """Add text."""
        if not self._pieces:
            yield {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": _summary("")}
        self._pieces.append(text)
        for piece in pieces(text):
            yield {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": piece}

    def end(self) -> Iterator[Json]:
        """End the part that is being said."""
        text = "".join(self._pieces)
        yield {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": text}
        yield {"type": "response.reasoning_summary_part.done", "summary_index": 0, "part": _summary(text)}

    def whole(self, status: Kept, _: str) -> Json:
        """Return what its item has at the end."""
        return {"summary": [_summary("".join(self._pieces))], "status": status}


Spoken = Said | Thought


class Called:
    """A call of one of the client's tools, whose arguments are being said."""

    def __init__(self, place: int, name: str) -> None:
        self.place, self._name = place, name
        self._pieces: list[str] = []

    def say(self, arguments: str) -> Iterator[Json]:
        """Add a piece of the arguments."""
        self._pieces.append(arguments)
        for piece in pieces(arguments):
            yield {"type": "response.function_call_arguments.delta", "delta": piece}

    def end(self) -> Iterator[Json]:
        """End the arguments."""
        whole = "".join(self._pieces)
        yield {"type": "response.function_call_arguments.done", "arguments": whole, "name": self._name}

    def whole(self, status: Kept) -> Json:
        """Return what its item has at the end."""
        return {"arguments": "".join(self._pieces), "status": status}


def _part(kind: str, text: str) -> Json:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}
