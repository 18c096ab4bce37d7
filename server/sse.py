"""Chunks as server-sent events: `data:` lines only, since clients fail on ids and event names. Pure."""

import json

from server.answers import AgentEvent, Chunk
from server.errors import ApiError

DONE = b"data: [DONE]\n\n"


def chunk_frame(chunk: Chunk | AgentEvent) -> bytes:
    """Encode a chunk with the fields that were set, nulls included."""
    return _frame(chunk.model_dump_json(exclude_unset=True))


def error_frame(error: ApiError) -> bytes:
    """Encode an error that comes after the headers, where a status cannot say it any more."""
    return _frame(json.dumps(error.envelope()))


def _frame(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
