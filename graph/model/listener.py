"""Who hears what the model says while it says it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from graph.model.answer import Said


class Listener(Protocol):
    """Hears a model of a run."""

    @property
    def hears_calls_of(self) -> Collection[str]:
        """The names of the tools whose calls it hears while they come."""

    async def hear(self, message_id: str | None, said: Said) -> None:
        """Take in the next piece of a message; return when the model may go on."""


listener_of_run: ContextVar[Listener | None] = ContextVar("listener_of_run", default=None)
"""The listener of the current run; None where LangChain's callbacks tell what is said, as in Studio."""


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Let this listener, or none, hear what is said inside."""
    before = listener_of_run.set(listener)
    try:
        yield
    finally:
        listener_of_run.reset(before)
