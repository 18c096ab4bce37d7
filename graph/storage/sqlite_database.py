"""A SQLite database in a thread of its own."""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from typing_extensions import override

from graph.storage.database import Database, Result, Row
from graph.storage.database_file import DatabaseFile

BUSY_TIMEOUT = 5000
# How many rows a deletion takes between two looks at the clock.
ROWS_AT_ONCE = 10


class SqliteDatabase(Database):
    """A connection that only its own thread uses, one piece of work after the other.

    After one wait for another program's lock has timed out, the next transactions do not wait until one succeeds: all
    that the server reads and writes would wait behind them.
    """

    kind, is_shared = "sqlite", False
    clock, blob = "(julianday('now') - 2440587.5) * 86400.0", "BLOB"

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, path: Path | None) -> None:
        super().__init__(thread)
        self.connection = connection
        self._ident = thread.submit(threading.get_ident).result()
        self._file = DatabaseFile(path) if path else None
        self._waits = True

    @override
    async def urgently(self, work: Callable[[], Result]) -> Result:
        return await self.read(work)  # there is one thread

    @override
    def call(self, work: Callable[[], Result]) -> Result:
        if threading.get_ident() == self._ident:
            return work()
        return self.threads.submit(self.transaction, work).result()

    @override
    def reading(self, work: Callable[[], Result]) -> Result:
        return work()

    @override
    def transaction(self, work: Callable[[], Result]) -> Result:
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

    @override
    def select(self, query: str, /, **values: object) -> Sequence[Row]:
        # All at once: a statement left open would keep the log from being emptied.
        return cast(Sequence[Row], self.connection.execute(query, values).fetchall())

    @override
    def execute(self, statement: str, /, **values: object) -> None:
        self.connection.execute(statement, values)

    @override
    def delete_rows(self, table: str, thread_id: str, until: float) -> bool:
        some = f"SELECT rowid FROM {table} WHERE thread_id = :thread ORDER BY rowid DESC LIMIT {ROWS_AT_ONCE}"
        while self.connection.execute(f"DELETE FROM {table} WHERE rowid IN ({some})", {"thread": thread_id}).rowcount:
            if time.monotonic() > until:
                return False
        return True

    @override
    def lock_schema(self) -> None:
        """Nothing to do: the file is this process's."""

    @override
    def check_file(self) -> None:
        if self._file:
            self._file.check()

    @override
    async def truncate_log(self) -> bool:
        """Empty the write-ahead log, which may still hold what was deleted; not while another process reads."""
        return await self.read(self._truncate_log)

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
