"""Server-sent events from the bytes that a model endpoint sends. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Sequence
from typing import NamedTuple

from graph.model.bounds import too_large

BOM = b"\xef\xbb\xbf"
LINE_ENDS = (b"\n", b"\r")


class ServerSentEvent(NamedTuple):
    """One event that has data; `name` is empty where the endpoint gave none."""

    data: str
    name: str = ""


class EventDecoder:
    """Bytes in pieces of any size to events.

    Comments, `id:`, `retry:` and events without data, all of which endpoints send to keep a connection alive, yield
    nothing. A line that begins with `error:`, as older llama.cpp servers write it, is an event of the name `error`.

    Args:
        most: bytes of the longest line, and of the longest event.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun_size = self._data_size = 0
        self._begun: list[bytes] = []  # a line whose end has not come yet, in pieces
        self._ended_in_cr = False
        self._is_first = True
        self._data: list[bytes] = []
        self._name = ""

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Return the events that the next piece completes.

        Raises:
            ModelFailure: an event, or a line, is too long.
        """
        if self._ended_in_cr and piece.startswith(b"\n"):  # the second half of a line end
            piece = piece[1:]
            self._ended_in_cr = False
        if self._is_first and not self._begun:
            piece = piece.lstrip(b"\r\n")
        if not piece:
            return []
        self._ended_in_cr = piece.endswith(b"\r")
        lines = piece.splitlines()
        rest = b"" if piece.endswith(LINE_ENDS) else lines.pop()
        if lines and (self._begun or self._is_first):
            lines[0] = self._whole(lines[0])
        if rest:
            self._begun.append(rest)
            self._begun_size += len(rest)
        events = self._events(lines)
        if self._begun_size + self._data_size > self._most:
            raise too_large("an event", self._most)
        return events

    def end(self) -> list[ServerSentEvent]:
        """Return the event at the end of the stream; some endpoints do not send its last empty line."""
        return self.feed(b"\n\n")

    def _whole(self, end: bytes) -> bytes:
        """Return the line that was begun, with its end."""
        line = b"".join([*self._begun, end])
        self._begun.clear()
        self._begun_size = 0
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(BOM)
        return line

    def _events(self, lines: Sequence[bytes]) -> list[ServerSentEvent]:
        """Take in lines; an empty one ends an event."""
        events: list[ServerSentEvent] = []
        for line in lines:
            if not line:
                data = b"\n".join(self._data).decode(errors="replace")
                if data and not data.isspace():
                    events.append(ServerSentEvent(data, self._name))
                self._data.clear()
                self._data_size = 0
                self._name = ""
                continue
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
                self._data_size += len(value) + 1
            elif field == b"event":
                self._name = value.removeprefix(b" ").decode(errors="replace")
            elif field == b"error":
                self._data.append(value.removeprefix(b" "))
                self._name = "error"
        return events
