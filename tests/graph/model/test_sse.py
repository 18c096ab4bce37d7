"""Server-sent events from bytes, as a table of exact bytes."""

import pytest

from graph.model.sse import EventDecoder, ServerSentEvent

ONE = [ServerSentEvent("x")]

TABLE: dict[str, tuple[bytes, list[ServerSentEvent]]] = {
    "LF": (b"data: x\n\n", ONE),
    "CRLF": (b"data: x\r\n\r\n", ONE),
    "CR": (b"data: x\r\r", ONE),
    "mixed line ends": (b"data: x\r\n\n", ONE),
    "a BOM": (b"\xef\xbb\xbfdata: x\n\n", ONE),
    "a BOM after an empty line": (b"\n\xef\xbb\xbfdata: x\n\n", ONE),
    "no space": (b"data:x\n\n", ONE),
    "two spaces": (b"data:  x\n\n", [ServerSentEvent(" x")]),
    "no last empty line": (b"data: x", ONE),
    "a comment": (b": hello\n\ndata: x\n\n:\n\n", ONE),
    "id and retry": (b"id: 1\nretry: 10\ndata: x\n\nid: 2\n\n", ONE),
    "a name": (b"event: error\ndata: x\n\n", [ServerSentEvent("x", "error")]),
    "a name is of one event": (b"event: ping\n\ndata: x\n\n", ONE),
    "the name behind the data": (b"data: x\nevent: e\n\n", [ServerSentEvent("x", "e")]),
    "two lines": (b"data: x\ndata: y\n\n", [ServerSentEvent("x\ny")]),
    "two events": (b"data: x\n\ndata: y\n\n", [ServerSentEvent("x"), ServerSentEvent("y")]),
    "no data": (b"event: ping\n\n", []),
    "empty data": (b"data:\n\ndata\n\ndata: \n\n", []),
    "a colon in the data": (b"data: a: b\n\n", [ServerSentEvent("a: b")]),
    "other fields": (b"foo: bar\ndata: x\nbaz\n\n", ONE),
    "llama.cpp's errors": (b'error: {"code":500}\n\n', [ServerSentEvent('{"code":500}', "error")]),
    "other line separators": ("data: a\u2028b\x0bc\n\n".encode(), [ServerSentEvent("a\u2028b\x0bc")]),
    "half a character": (b"data: \xec\x95\n\n", [ServerSentEvent("\ufffd")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("sent", "events"), TABLE.values(), ids=TABLE)
def test_e5_bytes_are_read_as_the_standard_says(sent: bytes, events: list[ServerSentEvent], size: int) -> None:
    decoder = EventDecoder(most=1000)
    read = [event for at in range(0, len(sent), size) for event in decoder.feed(sent[at : at + size])]
    assert [*read, *decoder.end()] == events
