"""A SQLite database in a thread of its own."""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

from typing_extensions import override

from graph.storage.database import Database, Result, Row
from graph.storage.database_file import DatabaseFile

BUSY_TIMEOUT = 5000
# How many rows a deletion takes between two looks at the clock.
ROWS_AT_ONCE = 10
# Seconds after which a transaction takes no more writes in.
TOGETHER = 0.005


class Write:
    """A piece of work that writes, and how it ended."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.is_done = False
        """Whether its transaction has ended, committed or not."""

    def do(self) -> None:
        """Do the work as the first of a transaction. If it fails, the whole transaction fails."""
        self._result = self._work()

    def do_behind_others(self, connection: sqlite3.Connection) -> None:
        """Do the work in a transaction that others have begun. If it fails, their work stays.

        Raises:
            Exception: it failed, and SQLite has ended the transaction.
        """
        connection.execute("SAVEPOINT one_write")
        try:
            self.do()
        except BaseException as error:
            if not connection.in_transaction:  # such as on a full disk
                raise
            connection.execute("ROLLBACK TO one_write")
            self._error = error
        connection.execute("RELEASE one_write")

    def end(self, error: BaseException | None) -> None:
        """Note that the transaction has been committed, or the error for which it was not."""
        self._error = self._error or error
        self.is_done = True

    def result(self) -> Any:
        """Return what the work returned.

        Raises:
            Exception: what it raised, or why it could not be committed.
        """
        if self._error:
            raise self._error
        return self._result


class SqliteDatabase(Database):
    """A connection that only its own thread uses, one piece of work after the other.

    What waits to be written is committed together: a commit waits for the disk, and what comes meanwhile shares the
    next one.

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
        self._writes: deque[Write] = deque()
        """The writes that wait for the thread, in their order."""

    def _written(self, write: Write) -> Any:
        """Return what a write returns. The first of those that wait does all of them."""
        if not write.is_done:
            self._write_together(write)
        return write.result()

    def _write_together(self, first: Write) -> None:
        self._writes.remove(first)
        begun = [first]

        def do_all() -> None:
            until = time.monotonic() + TOGETHER
            first.do()
            while self._writes and time.monotonic() < until:
                begun.append(self._writes.popleft())
                begun[-1].do_behind_others(self.connection)

        failure: BaseException | None = None
        try:
            self.transaction(do_all)
        except BaseException as error:
            failure = error
        for write in begun:
            write.end(failure)

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
    def writing(self, work: Callable[[], Result]) -> Callable[[], Result]:
        write = Write(work)
        self._writes.append(write)
        return partial(self._written, write)

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
