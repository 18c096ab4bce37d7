"""Answer a request with runs, streamed or collected; the runs end with the request."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from functools import partial
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from graph.events import RunEvent
from server.errors import RunCancelled
from server.http.event_stream import PING_INTERVAL, EventStream, on_disconnect
from server.sessions.runs import Run

Choices = Sequence[AsyncIterator[Sequence[RunEvent]]]
"""For each choice the events of its run, all that are new at once."""


class Reply(Protocol):
    """How a protocol encodes the events of runs; each run is one choice of the answer."""

    is_streamed: bool

    def encode(self, choices: Choices) -> AsyncGenerator[bytes]:
        """Yield the frames of a stream. A failure becomes a frame: the status has been sent."""

    async def collect(self, choices: Choices) -> Response:
        """Return the whole answer.

        Raises:
            ApiError: a run failed, or was stopped.
        """


async def run_response(runs: Sequence[Run], reply: Reply, receive: Receive) -> Response:
    """Answer with the runs; a failure before the first event is a status, which can be retried.

    If the model is slow to begin, the stream begins before it, so that its first comment comes before proxies give up.

    When the client leaves, the runs are stopped; they have ended when this returns or raises.
    """
    if not reply.is_streamed:
        return await collected(runs, reply.collect, receive)
    async with AsyncExitStack() as ending:
        for run in runs:
            await ending.enter_async_context(aclosing(run))
        async with _stopped_by_leaving(runs, receive):
            await runs[0].begun(within=PING_INTERVAL)
        ending.pop_all()  # from here on the stream ends the runs
    return RunStream(runs, reply.encode([run.events() for run in runs]))


async def collected(
    runs: Sequence[Run], collect: Callable[[Choices], Awaitable[Response]], receive: Receive
) -> Response:
    """Answer with what is collected from the runs; they end with this, also when the client leaves."""
    async with AsyncExitStack() as ending:
        for run in runs:
            await ending.enter_async_context(aclosing(run))
        async with _stopped_by_leaving(runs, receive):
            return await collect([run.events() for run in runs])


def _stopped_by_leaving(runs: Sequence[Run], receive: Receive) -> AbstractAsyncContextManager[None]:
    return on_disconnect(receive, *(partial(run.stop, RunCancelled()) for run in runs))


class RunStream(EventStream):
    """An event stream of runs, which end with it."""

    def __init__(self, runs: Sequence[Run], frames: AsyncGenerator[bytes]) -> None:
        super().__init__(frames, runs[0].task.get_name())
        self._runs = runs

    def reader_left(self) -> None:
        """Stop the runs."""
        for run in self._runs:
            run.stop(RunCancelled())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and stop the runs if their reader leaves first."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.reader_left()
            for run in self._runs:
                await run.aclose()
