"""A SQLite database in a thread of its own, where each read and each transaction is one piece of work."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from graph.storage.database_file import DatabaseFile

BUSY_TIMEOUT = 5000

Result = TypeVar("Result")


class SqliteDatabase:
    """A connection that only its own thread uses, one piece of work after the other.

    A transaction that was begun runs to its end, whether its caller is cancelled or not.

    After one wait for another program's lock has timed out, the next transactions do not wait until one succeeds: all
    that the server reads and writes would wait behind them.
    """

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, path: Path | None) -> None:
        self.connection = connection
        self._thread = thread
        self._ident = thread.submit(threading.get_ident).result()
        self._file = DatabaseFile(path) if path else None
        self._waits = True
        self.times = {"read": (0, 0.0), "write": (0, 0.0)}
        """For each kind of work how many pieces there were, and their seconds together."""

    async def read(self, work: Callable[[], Result]) -> Result:
        """Do work in the database's thread, and return what it returns."""
        return await self._in_thread(partial(self._timed, "read", work))

    async def write(self, work: Callable[[], Result]) -> Result:
        """Do work in the database's thread, in one transaction.

        Raises:
            DatabaseMoved: it was written, but the file is no longer at its path.
        """
        return await asyncio.shield(self._in_thread(partial(self._timed, "write", partial(self._transaction, work))))

    def call(self, work: Callable[[], Result]) -> Result:
        """Do work in the database's thread, for a caller in any thread who waits for it, in one transaction."""
        if threading.get_ident() == self._ident:  # inside of `read` or `write`
            return work()
        return self._thread.submit(self._transaction, work).result()

    def select(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return all rows at once: a statement left open would keep the log from being emptied."""
        return self.connection.execute(query, values).fetchall()

    def check_file(self) -> None:
        """Check that the file is still at its path.

        Raises:
            DatabaseMoved: it was deleted, moved away or replaced.
        """
        if self._file:
            self._file.check()

    async def truncate_log(self) -> bool:
        """Empty the write-ahead log, which may still hold what was deleted; not while another process reads."""
        return await self.read(self._truncate_log)

    def _in_thread(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _timed(self, kind: str, work: Callable[[], Result]) -> Result:
        began = time.monotonic()
        try:
            return work()
        finally:
            count, seconds = self.times[kind]
            self.times[kind] = count + 1, seconds + time.monotonic() - began

    def _transaction(self, work: Callable[[], Result]) -> Result:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = work()
            self.connection.commit()
        except BaseException as error:
            self.connection.rollback()
            if is_busy(error):
                self._wait(False)
            raise
        if not self._waits:
            self._wait(True)
        self.check_file()
        return result

    def _truncate_log(self) -> bool:
        self._set_timeout(0)  # turns must not wait for it
        try:
            (result,) = self.select("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._wait(self._waits)
        return not result["busy"]

    def _wait(self, waits: bool) -> None:
        self._waits = waits
        self._set_timeout(BUSY_TIMEOUT if waits else 0)

    def _set_timeout(self, milliseconds: int) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


def is_busy(error: BaseException) -> bool:
    """Whether an error says that another program holds the lock of the database."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
