"""The lock around a SQLite connection that many tasks share."""

import asyncio
from types import TracebackType

import aiosqlite

BUSY_TIMEOUT = 5000


class WriteLock(asyncio.Lock):
    """A lock around the connection: whoever leaves it with an error leaves no open transaction behind.

    A commit that fails leaves its transaction open, and the next one would commit what its client was told has failed.

    When somebody has waited in vain for another program's lock, the next ones do not wait, until a write succeeds:
    all that the server reads and writes goes through one thread, where they would wait one after the other.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._changes_when_busy: int | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo what was not committed, then let the next one in."""
        try:
            if kind:
                # Also where none is open yet: a statement that was given up may still be on its way to the thread.
                await self._connection.rollback()
            if is_busy(error):
                await self._wait_for_others(0)
                self._changes_when_busy = self._connection.total_changes
            elif self._changes_when_busy not in (None, self._connection.total_changes):
                await self._wait_for_others(BUSY_TIMEOUT)
                self._changes_when_busy = None
        finally:
            await super().__aexit__(kind, error, trace)

    async def _wait_for_others(self, milliseconds: int) -> None:
        await self._connection.execute_fetchall(f"PRAGMA busy_timeout = {milliseconds}")


def is_busy(error: BaseException | None) -> bool:
    """Whether an error says that another program holds the lock of the database."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
