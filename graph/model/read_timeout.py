"""The longest time for which an endpoint may be silent."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


class ReadTimeout:
    """Ends a wait for an endpoint that takes too long. One timer serves all waits for a response.

    A timer for each read, as `asyncio.timeout` sets it, takes as long as the read. aiohttp's own is lost where it
    closes a connection for a malformed chunk; and where it runs out, the openai package sends the request again, though
    a slow model still works on the first.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0
        self._until = 0.0
        self._waiting: asyncio.Task[object] | None = None
        """The task that waits; each read may be in another one."""
        self._is_over = False

    async def within(self, seconds: float, coming: Awaitable[Result]) -> Result:
        """Return what comes.

        Raises:
            TimeoutError: it did not come within so many seconds.
        """
        self._until = self._loop.time() + seconds
        if seconds != self._seconds:
            self._seconds = seconds
            self._look_in(seconds)
        waiting = self._waiting = asyncio.current_task(self._loop)
        assert waiting is not None
        cancelling = waiting.cancelling()
        try:
            return await coming
        except asyncio.CancelledError as cancelled:
            if not self._is_over or waiting.uncancel() > cancelling:
                raise
            raise TimeoutError from cancelled
        finally:
            self._waiting = None

    def close(self) -> None:
        """Stop the timer."""
        if self._timer:
            self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        self.close()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """End the wait if it took too long, or look again later. If nobody waits, the next wait has its full time."""
        left = self._until - self._loop.time() if self._waiting else self._seconds
        if left > 0:
            self._look_in(left)
        elif self._waiting:
            self._is_over = True
            self._waiting.cancel()
