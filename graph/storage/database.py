"""The interface of a database: each read and each transaction is one piece of work, beside the event loop."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, ClassVar, Literal, TypeVar

Row = Mapping[str, Any]
Result = TypeVar("Result")

# How many values one statement takes as parameters.
AT_ONCE = 4096


class DatabaseUnavailable(Exception):
    """The database cannot be used at the moment; the message says why, and what to do."""


class DatabaseLocked(DatabaseUnavailable):
    """Another transaction holds what is asked for, and does not end."""


class CommitUnknown(DatabaseUnavailable):
    """The database did not say whether a transaction was committed."""


class DatabaseFailed(Exception):
    """The database cannot do what it was told; the message has nothing of the data."""


class Database(ABC):
    """A database whose pieces of work are done in threads of its own.

    `select` and `execute` are for use inside a piece of work. Their statements are SQL that every kind of database
    understands, with parameters that are written `:name`.

    A transaction that was begun runs to its end, whether its caller is cancelled or not.
    """

    kind: ClassVar[Literal["sqlite", "postgresql"]]
    clock: ClassVar[str]
    """SQL for the database's own time, in Unix seconds."""
    blob: ClassVar[str]
    """Its type for bytes."""
    is_shared: ClassVar[bool]
    """Whether several processes may use it at once."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self.times = {"read": (0, 0.0), "write": (0, 0.0)}
        """For each kind of work how many pieces there were, and their seconds together."""
        self._timing = Lock()

    async def read(self, work: Callable[[], Result]) -> Result:
        """Do work that reads, and return what it returns; others may write between two of its statements.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await self.in_thread(partial(self._timed, "read", partial(self.reading, work)))

    async def write(self, work: Callable[[], Result]) -> Result:
        """Do work in one transaction, and return what it returns.

        Raises:
            DatabaseUnavailable: the database does not answer.
            DatabaseMoved: it was written, but the database's file is no longer at its path.
        """
        return await asyncio.shield(self.in_thread(partial(self._timed, "write", self.writing(work))))

    async def rows(self, query: str, /, **values: object) -> Sequence[Row]:
        """Return the rows of a query.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        return await self.read(partial(self.select, query, **values))

    async def do(self, statement: str, /, **values: object) -> Sequence[Row]:
        """Execute one statement that changes rows, as a transaction of its own, and return what it returns.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        select = partial(self.select, statement, **values)
        return await asyncio.shield(self.in_thread(partial(self._timed, "write", partial(self.reading, select))))

    def in_thread(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        """Do work in a thread of the database."""
        return asyncio.get_running_loop().run_in_executor(self.threads, work)

    @abstractmethod
    async def urgently(self, work: Callable[[], Result]) -> Result:
        """Do work at once, and not behind other work; it is a few short statements, each a transaction of its own."""

    @abstractmethod
    def call(self, work: Callable[[], Result]) -> Result:
        """Do work for a caller in any thread, who waits for it: inside a piece of work, or in a transaction."""

    @abstractmethod
    def reading(self, work: Callable[[], Result]) -> Result:
        """Do work that reads, in a thread of the database."""

    def writing(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Return what is to be done in a thread of the database for work that `write` was asked for."""
        return partial(self.transaction, work)

    @abstractmethod
    def transaction(self, work: Callable[[], Result]) -> Result:
        """Do work in one transaction, in a thread of the database."""

    @abstractmethod
    def select(self, query: str, /, **values: object) -> Sequence[Row]:
        """Return all rows of a query at once."""

    @abstractmethod
    def execute(self, statement: str, /, **values: object) -> None:
        """Execute a statement; an error may come with a later one, or at the end of the piece of work."""

    @abstractmethod
    def delete_rows(self, table: str, thread_id: str, until: float) -> bool:
        """Delete the rows of a thread, the newest first, until a moment of `time.monotonic`; return whether all are."""

    @abstractmethod
    def lock_schema(self) -> None:
        """Keep other processes from changing the tables until the transaction ends."""

    def one(self, query: str, /, **values: object) -> Row | None:
        """Return the first row of a query, or None."""
        rows = self.select(query, **values)
        return rows[0] if rows else None

    def select_among(self, query: str, listed: Sequence[object], /, **values: object) -> Sequence[Row]:
        """Return the rows of a query in which `(:listed)` stands for values, of which there may be any number."""
        rows: list[Row] = []
        for first in range(0, len(listed), AT_ONCE):
            named = {f"listed_{number}": value for number, value in enumerate(listed[first : first + AT_ONCE])}
            places = ", ".join(f":{name}" for name in named)
            rows += self.select(query.replace(":listed", places), **named, **values)
        return rows

    @abstractmethod
    def check_file(self) -> None:
        """Check that the database's file, if it has one, is still at its path.

        Raises:
            DatabaseMoved: it was deleted, moved away or replaced.
        """

    @abstractmethod
    async def truncate_log(self) -> bool:
        """Remove what was deleted from the database's log too; return whether it is gone."""

    def _timed(self, kind: str, work: Callable[[], Result]) -> Result:
        began = time.monotonic()
        try:
            return work()
        finally:
            with self._timing:
                count, seconds = self.times[kind]
                self.times[kind] = count + 1, seconds + time.monotonic() - began


def storable(name: str) -> str:
    """Return a name of others, such as a call's id, as a column can hold it: PostgreSQL's texts have no NUL."""
    return name.replace("\x00", "\\0")
