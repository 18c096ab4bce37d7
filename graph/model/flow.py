"""Backpressure: the model waits while its reader is behind.

LangGraph's stream has no bound: without one, a fast model fills the memory of a server whose client reads slowly, and
keeps its event loop busy.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

AHEAD = 16


class Flow:
    """How many chunks of the model have not been taken yet; the model waits while there are too many."""

    def __init__(self) -> None:
        self._ahead = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    def say(self) -> None:
        """Count a chunk that was said."""
        self._ahead += 1
        if self._ahead >= AHEAD:
            self._has_room.clear()

    def take(self) -> None:
        """Count a chunk that was taken."""
        self._ahead = max(self._ahead - 1, 0)
        if self._ahead < AHEAD:
            self._has_room.set()

    async def room(self) -> None:
        """Wait until another chunk may be said."""
        await self._has_room.wait()


flow_of_run: ContextVar[Flow | None] = ContextVar("flow_of_run", default=None)
"""The flow of the current run; None where the graph is not run by this server, as in Studio."""


@contextmanager
def flowing(flow: Flow | None) -> Iterator[None]:
    """Count what the model says inside as part of this flow."""
    before = flow_of_run.set(flow)
    try:
        yield
    finally:
        flow_of_run.reset(before)
