"""Server-sent events from the bytes that a model endpoint sends. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event that has data; `name` is empty where the endpoint gave none."""

    data: str
    name: str = ""


class EventDecoder:
    """Bytes in pieces of any size to events.

    Comments, `id:`, `retry:` and events without data, all of which endpoints send to keep a connection alive, yield
    nothing. A line that begins with `error:`, as older llama.cpp servers write it, is an event of the name `error`.
    """

    def __init__(self) -> None:
        self._begun: list[bytes] = []  # a line whose end has not come yet, in pieces
        self._ended_in_cr = False
        self._is_first = True
        self._data: list[str] = []
        self._name = ""

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that the next piece completes."""
        if self._ended_in_cr and piece.startswith(b"\n"):  # the second half of a line end
            piece = piece[1:]
            self._ended_in_cr = False
        if not piece:
            return
        self._ended_in_cr = piece.endswith(b"\r")
        for line in piece.splitlines(keepends=True):
            self._begun.append(line)
            if line.endswith((b"\n", b"\r")):
                yield from self._take(self._whole_line())

    def end(self) -> Iterator[ServerSentEvent]:
        """Yield the event that the stream ended in: some endpoints leave out the last empty line."""
        if self._begun:
            yield from self._take(self._whole_line())
        yield from self._take("")

    def _whole_line(self) -> str:
        line = b"".join(self._begun).rstrip(b"\r\n")
        self._begun.clear()
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(BOM)
        return line.decode(errors="replace")

    def _take(self, line: str) -> Iterator[ServerSentEvent]:
        """Take in one line; an empty one ends an event."""
        if not line:
            data, name = "\n".join(self._data), self._name
            self._data, self._name = [], ""
            if data.strip():
                yield ServerSentEvent(data, name)
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "error":
                self._data.append(value)
                self._name = "error"
