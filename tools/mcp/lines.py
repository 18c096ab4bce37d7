"""What servers send, line by line or whole, and within bounds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tools.mcp.messages import MAX_ANSWER, TOO_LARGE
from tools.mcp.reasons import UnansweredError
from tools.packing import packing

CHUNK = 65_536
LAST_BYTES = 1_000
CUT = b"\0"
ENDS_OF_EVENTS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class _Line:
    """One line while it arrives.

    Of a line that is too long only the beginning and the end are kept: an answer may have its id at the end.
    """

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._pieces: list[bytes] = []
        self._end = b""

    def add(self, piece: bytes) -> None:
        if self._size < self._most:
            self._pieces.append(piece)
        else:
            self._end = (self._end + piece)[-LAST_BYTES:]
        self._size += len(piece)

    def take(self) -> bytes:
        """Return it, and begin the next one; one that is too long is no JSON any more."""
        line = b"".join(self._pieces) + (CUT + self._end if self._end else b"")
        self._pieces, self._end, self._size = [], b"", 0
        return line


async def lines(stream: asyncio.StreamReader, most: int) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; one result is one line. Of longer ones than `most` bytes the middle is left out."""
    line = _Line(most)
    while chunk := await stream.read(CHUNK):
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            line.add(end)
            yield line.take()
        line.add(rest)
    if last := line.take():
        yield last


class _Bounded(httpx.AsyncByteStream):
    """A stream that fails where it, or an event of it, is too long."""

    def __init__(self, stream: Any, *, by_events: bool) -> None:
        self._stream: httpx.AsyncByteStream = stream
        self._by_events = by_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            end = max(map(piece.rfind, ENDS_OF_EVENTS)) if self._by_events else -1
            size = size + len(piece) if end < 0 else len(piece) - end
            if size > MAX_ANSWER:
                raise UnansweredError(TOO_LARGE, taken=True)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def bounded(response: httpx.Response, *, by_events: bool = False) -> httpx.Response:
    """Let the reading of a response fail with an `UnansweredError` where it, or an event of it, is too long.

    Raises:
        UnansweredError: it is packed, though that was not asked for.
    """
    if packed := packing(response.headers):
        raise UnansweredError(f"it packed its answer ({packed!r}), unasked", taken=True)
    response.stream = _Bounded(response.stream, by_events=by_events)
    return response
