"""Chunks as server-sent events: `data:` lines only, since clients fail on ids and event names. Pure."""

import json
import re

from server.chat.response import AgentEvent, Chunk
from server.errors import ApiError

DONE = b"data: [DONE]\n\n"

# Beside those that JSON escapes itself, what readers that are not strict take for the end of a line: httpx's
# `iter_lines`, and so LangServe's client, as Python's `splitlines`.
LINE_ENDS = re.compile("[\x85\u2028\u2029]")


def chunk_frame(chunk: Chunk | AgentEvent) -> bytes:
    """Encode a chunk with the fields that were set, nulls included."""
    return _frame(one_line(chunk.model_dump_json(exclude_unset=True)))


def error_frame(error: ApiError) -> bytes:
    """Encode an error that comes after the headers, where a status cannot say it any more."""
    return _frame(json.dumps(error.envelope()))


def one_line(text: str) -> str:
    """Return JSON text in which nobody finds the end of a line."""
    return text if text.isascii() else LINE_ENDS.sub(lambda end: f"\\u{ord(end[0]):04x}", text)


def _frame(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
