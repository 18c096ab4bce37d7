"""The events of one run on their way to its reader."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar

from graph.events import ClientCallDelta, Reasoning, Refusal, RunEvent, Text
from graph.model.answer import Said

AHEAD = 16


class EventQueue:
    """All events of a run, of which the reader takes those that are new at once.

    The model waits while its reader is behind: a fast model would fill the memory of a server whose client reads
    slowly, and keep its event loop busy.

    Args:
        ahead: how many events may wait for the reader before the model does.
    """

    def __init__(self, ahead: float = AHEAD) -> None:
        self.events: list[RunEvent] = []
        self._taken = 0
        self._ahead = ahead
        self._is_closed = False
        self.stopped: Exception | None = None
        """Why the run was stopped, if it was."""
        self.is_complete = False
        """Whether all was told and taken."""
        self.hears_calls_of: Collection[str] = ()
        """The names of the client's tools, whose calls are told while the model writes them."""
        self.told_calls: set[str] = set()
        """The ids of these calls, as far as the model has begun them."""
        self.summaries: dict[str, str] = {}
        """The summaries that the run made, by the ids of the last messages that they cover; they are kept with it."""
        self._loop = asyncio.get_running_loop()  # kept, since Python 3.11 looks for it by a system call
        self._reader: asyncio.Future[None] | None = None
        """What the reader waits for."""
        self._room = asyncio.Event()

    def tell(self, event: RunEvent) -> None:
        """Add an event; those of a stopped run are dropped."""
        if not self.stopped:
            self.events.append(event)
            self._wake()

    def tell_all(self, events: Iterable[RunEvent]) -> None:
        """Add events."""
        for event in events:
            self.tell(event)

    async def hear(self, message_id: str | None, said: Said) -> None:
        """Add what the model says, and wait until it may go on.

        Raises:
            CancelledError: the run was stopped, and a library has lost the model's cancellation.
        """
        if self.stopped:
            raise asyncio.CancelledError
        if said.reasoning:
            self.tell(Reasoning(message_id, said.reasoning))
        if said.text:
            self.tell(Text(message_id, said.text))
        if said.refusal:
            self.tell(Refusal(message_id, said.refusal))
        for call_id, name, arguments in said.calls:
            self.told_calls.add(call_id)
            self.tell(ClientCallDelta(call_id, name, arguments))
        await self._waiting_at_most(self._ahead)

    async def all_taken(self) -> None:
        """Wait until the reader has taken every event.

        Raises:
            CancelledError: the run was stopped, and a library has lost its cancellation.
        """
        if self.stopped:
            raise asyncio.CancelledError
        await self._waiting_at_most(0)

    async def ready(self) -> None:
        """Wait until there is a new event, or no more will come."""
        while self._taken == len(self.events) and not self._is_closed:
            self._reader = self._loop.create_future()
            await self._reader

    async def take(self) -> Sequence[RunEvent]:
        """Wait for new events and return them all; none when no more will come."""
        await self.ready()
        new = self.events[self._taken :]
        self._taken = len(self.events)
        self._room.set()
        return new

    def stop(self, why: Exception) -> None:
        """Take no more events, and drop those that the reader has not taken: they count as not said."""
        self.stopped = why
        del self.events[self._taken :]

    def complete(self) -> None:
        """Say that all was told and taken: what is left is to keep it, and cannot be stopped."""
        self.is_complete = True

    def close(self) -> None:
        """Say that no more will come."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    async def _waiting_at_most(self, events: float) -> None:
        while len(self.events) - self._taken > events:
            self._room.clear()
            await self._room.wait()


queue_of_run: ContextVar[EventQueue | None] = ContextVar("queue_of_run", default=None)
"""The queue of the current run; None where the graph is not run by this server, as in Studio."""
