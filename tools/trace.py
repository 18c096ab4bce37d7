"""The trace that the current request is part of, for those that we ask: model endpoints and MCP servers.

Source: https://www.w3.org/TR/trace-context/
"""

import re
import secrets
from contextvars import ContextVar

HEADER = "traceparent"
FORM = re.compile(r"[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")

TRACE_PARENT: ContextVar[str | None] = ContextVar("trace_parent", default=None)
"""The value of the header; None outside of requests."""


def continued(given: str, trace_id: str) -> str:
    """Return what we tell others: a part of the trace that was given, or of a new one with this id of 32 hex digits."""
    known = FORM.fullmatch(given.strip())
    trace, flags = (known["trace"], known["flags"]) if known else (trace_id, "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"
