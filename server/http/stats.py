"""What is done for one request: for its line in the log, and for the metrics."""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

# Only a rough estimate, for messages that were cut: the endpoint never told their token counts.
BYTES_PER_TOKEN = 4


class ToolUse(NamedTuple):
    """One call of a tool of the server's."""

    name: str
    seconds: float
    failed: bool


@dataclass
class RequestStats:
    """What was done so far. Times are those at which the reader was told."""

    began: float = field(default_factory=time.monotonic)
    model: str | None = None
    first_token_at: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tools: list[ToolUse] = field(default_factory=list)
    body_size: int = 0
    """Bytes of the request."""
    _uncounted: int = 0
    """Characters of a message whose tokens are not known yet."""
    _started: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def first_token(self) -> float | None:
        """Seconds from the request to the first piece of the answer; None if there was none."""
        return None if self.first_token_at is None else self.first_token_at - self.began

    def says_something(self, length: int) -> None:
        """Note that a piece of the answer has come, and its characters."""
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
        self._uncounted += length

    def uses_tokens(self, read: int, written: int) -> None:
        """Note the tokens of a model's message, which is over."""
        self.input_tokens += read
        self.output_tokens += written
        self._uncounted = 0

    def count_the_rest(self) -> None:
        """Estimate the tokens of a message that has no end, since its client left or its model failed."""
        if self._uncounted:
            self.uses_tokens(self.body_size // BYTES_PER_TOKEN, max(self._uncounted // BYTES_PER_TOKEN, 1))

    def starts_tool(self, call_id: str, name: str) -> None:
        """Note that a tool is called."""
        self._started[call_id] = name, time.monotonic()

    def ends_tool(self, call_id: str, *, failed: bool) -> None:
        """Note that a call of a tool has ended."""
        if call_id in self._started:
            name, began = self._started.pop(call_id)
            self.tools.append(ToolUse(name, time.monotonic() - began, failed))

    def shown_tools(self) -> Sequence[dict[str, object]]:
        """Return the calls of tools as the log shows them."""
        return [{"name": tool.name, "seconds": round(tool.seconds, 3), "failed": tool.failed} for tool in self.tools]


STATS: ContextVar[RequestStats | None] = ContextVar("stats", default=None)
"""What is done for the current request; None outside of requests."""
