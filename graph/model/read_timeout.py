"""The longest wait for a piece of a response."""

import asyncio
from collections.abc import AsyncIterator

from graph.model.failures import Failure, ModelFailure


class ReadTimeout:
    """One timer for all reads of a response; setting one for each, as `asyncio.timeout` does, costs as much as a read.

    aiohttp's own time-out is lost where it closes a connection for a malformed chunk.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0
        self._until = 0.0
        self._reader: asyncio.Task[object] | None = None
        """The task that waits for a read; each read may be in another one."""
        self._is_over = False

    async def read(self, reads: AsyncIterator[bytes], seconds: float) -> bytes:
        """Return what the next read brings; nothing at the end.

        Raises:
            ModelFailure: nothing came for so many seconds.
        """
        self._until = self._loop.time() + seconds
        if seconds != self._seconds:
            self._seconds = seconds
            self._look_again_in(seconds)
        reader = self._reader = asyncio.current_task()
        assert reader is not None
        cancelling = reader.cancelling()
        try:
            return await anext(reads, b"")
        except asyncio.CancelledError as cancelled:
            if not self._is_over or reader.uncancel() > cancelling:
                raise
            raise ModelFailure(Failure("stalled")) from cancelled
        finally:
            self._reader = None

    def close(self) -> None:
        """Watch no longer."""
        if self._timer:
            self._timer.cancel()

    def _look_again_in(self, seconds: float) -> None:
        self.close()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Cancel the read if it is late. Between two reads, the next one has all of its time."""
        left = self._until - self._loop.time() if self._reader else self._seconds
        if left > 0:
            self._look_again_in(left)
        elif self._reader:
            self._is_over = True
            self._reader.cancel()
