"""Server-sent events from the bytes that a model endpoint sends. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
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
            if line.endswith((b"\n", b"\r")) and (event := self._take(self._whole_line())):
                yield event

    def end(self) -> Iterator[ServerSentEvent]:
        """Yield the event that the stream ended in: some endpoints leave out the last empty line."""
        for line in (self._whole_line(), b""):
            if event := self._take(line):
                yield event

    def _whole_line(self) -> bytes:
        line = b"".join(self._begun).rstrip(b"\r\n")
        self._begun.clear()
        if self._is_first and line:
            self._is_first = False
            line = line.removeprefix(BOM)
        return line

    def _take(self, line: bytes) -> ServerSentEvent | None:
        """Take in one line; an empty one ends an event, which is returned."""
        if not line:
            data, name = "\n".join(self._data), self._name
            self._data.clear()
            self._name = ""
            return ServerSentEvent(data, name) if data.strip() else None
        field, _, value = line.decode(errors="replace").partition(":")
        match field:
            case "data":
                self._data.append(value.removeprefix(" "))
            case "event":
                self._name = value.removeprefix(" ")
            case "error":
                self._data.append(value.removeprefix(" "))
                self._name = "error"
        return None
