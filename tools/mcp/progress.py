"""What a tool tells of its progress while it runs."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a call has come, of how much where that is known, and what the server says about it."""

    progress: float
    total: float | None
    message: str | None


progress_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("progress_listener", default=None)
"""The caller of a tool may set it, to hear of the call's progress."""


def tell_listener() -> Callable[[Progress], None]:
    """Return the function that reports progress to the current caller."""
    return progress_listener.get() or (lambda _: None)
