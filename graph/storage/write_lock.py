"""The lock around a SQLite connection that many tasks share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import aiosqlite

BUSY_TIMEOUT = 5000


class WriteLock(asyncio.Lock):
    """A lock around the connection; leaving it with an error rolls the transaction back.

    A commit that fails leaves its transaction open, and the next one would commit what its client was told has failed.

    After one wait for another program's lock has timed out, the next writes do not wait until one succeeds: all reads
    and writes go through one thread, where they would wait one after the other.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__()
        self._connection = connection
        self._changes_when_busy: int | None = None
        self._patience = BUSY_TIMEOUT

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Roll back what was not committed, then release the lock."""
        try:
            if kind:
                # Even if no transaction is open: a cancelled statement may still be on its way to the thread.
                await self._connection.rollback()
            if is_busy(error):
                await self._be_patient(0)
                self._changes_when_busy = self._connection.total_changes
            elif self._changes_when_busy not in (None, self._connection.total_changes):
                await self._be_patient(BUSY_TIMEOUT)
                self._changes_when_busy = None
        finally:
            await super().__aexit__(kind, error, trace)

    @asynccontextmanager
    async def without_waiting(self) -> AsyncIterator[None]:
        """Hold the lock; inside, statements do not wait for other programs' locks."""
        async with self:
            await self._set_timeout(0)
            try:
                yield
            finally:
                await self._set_timeout(self._patience)

    async def _be_patient(self, milliseconds: int) -> None:
        self._patience = milliseconds
        await self._set_timeout(milliseconds)

    async def _set_timeout(self, milliseconds: int) -> None:
        await self._connection.execute_fetchall(f"PRAGMA busy_timeout = {milliseconds}")


def is_busy(error: BaseException | None) -> bool:
    """Whether an error says that another program holds the lock of the database."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
