"""A PostgreSQL database: a pool of connections, each used by one thread at a time."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, cast

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.rows import DictRow
from psycopg_pool import ConnectionPool
from typing_extensions import override

from graph.storage.database import (
    CommitUnknown,
    Database,
    DatabaseFailed,
    DatabaseLocked,
    DatabaseUnavailable,
    Result,
    Row,
)

# Seconds until a server that does not answer counts as gone, and until a piece of work that has not begun is given up.
LONGEST_WAIT = 10.0
# The key of PostgreSQL's advisory lock under which tables are changed: "chat" in ASCII.
SCHEMA_LOCK = 0x63686174
# A parameter, `:name`, and not a cast, `::text`.
PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
NOT_CONFIRMED = "The database did not confirm that this was stored. Look at the session before you send it again."


class Connection(psycopg.Connection[DictRow]):
    """A connection that breaks off when the server does not answer.

    A server that was stopped, or is behind a network that is gone, says nothing of it.
    """

    patience: float | None = LONGEST_WAIT

    @override
    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, timeout or self.patience)
        except psycopg.errors._WaitTimeout:
            self.close()
            raise psycopg.OperationalError(f"no answer within {LONGEST_WAIT:g} s") from None


class PostgresDatabase(Database):
    """A database that several processes may use."""

    kind, is_shared = "postgresql", True
    clock, blob = "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)", "BYTEA"

    def __init__(
        self, pool: ConnectionPool[Connection], threads: ThreadPoolExecutor, urgent_thread: ThreadPoolExecutor
    ) -> None:
        super().__init__(threads)
        self._pool, self._urgent_thread = pool, urgent_thread
        self._local = threading.local()

    @property
    def connection(self) -> Connection:
        """The connection of the piece of work that this thread is in."""
        connection: Connection = self._local.connection
        return connection

    @override
    def in_thread(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        return super().in_thread(partial(_begun_by, time.monotonic() + LONGEST_WAIT, work))

    @override
    async def urgently(self, work: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._urgent_thread, self.reading, work)

    @override
    def call(self, work: Callable[[], Result]) -> Result:
        return work() if hasattr(self._local, "connection") else self.transaction(work)

    @override
    def reading(self, work: Callable[[], Result]) -> Result:
        with self._connected():
            return work()

    @override
    def transaction(self, work: Callable[[], Result]) -> Result:
        is_committing = False
        try:
            # In a pipeline statements are sent without a wait for the one before, where no rows are asked for.
            with self._connected() as connection, connection.pipeline():
                connection.execute("BEGIN")
                result = work()
                is_committing = True
                connection.execute("COMMIT")
            return result
        except DatabaseUnavailable as error:
            if is_committing and getattr(error.__cause__, "sqlstate", None) is None:
                raise CommitUnknown(NOT_CONFIRMED) from error
            raise

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Give the thread a connection; what is left open on it is rolled back.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or broke off.
            DatabaseFailed: a statement cannot be executed.
        """
        try:
            with self._pool.connection() as connection:
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    connection.patience = LONGEST_WAIT
                    del self._local.connection
        except psycopg.errors.LockNotAvailable as error:
            raise DatabaseLocked("The database is busy with another change of the same rows. Try again.") from error
        except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise DatabaseUnavailable(f"The database cannot be used: {reason(error)}. Try again.") from error
        except psycopg.Error as error:  # whose other lines have values, and so what users have said
            raise DatabaseFailed(f"The database refused a statement: {reason(error)}.") from None

    @override
    def select(self, query: str, /, **values: object) -> Sequence[Row]:
        return cast(Sequence[Row], self._executed(query, values).fetchall())

    @override
    def execute(self, statement: str, /, **values: object) -> None:
        self._executed(statement, values)

    def _executed(self, statement: str, values: dict[str, object]) -> psycopg.Cursor[DictRow]:
        if not values:
            return self.connection.execute(cast(Any, statement))
        return self.connection.execute(cast(Any, with_percents(statement)), values)

    @override
    def delete_rows(self, table: str, thread_id: str, until: float) -> bool:
        self.execute(f"DELETE FROM {table} WHERE thread_id = :thread", thread=thread_id)
        return True

    @override
    def lock_schema(self) -> None:
        # A large table is changed for longer than any query may take.
        self.connection.patience = None
        self.execute("SET LOCAL lock_timeout = 0")
        self.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")

    @override
    def check_file(self) -> None:
        """Nothing to do: the files are the server's."""

    @override
    async def truncate_log(self) -> bool:
        """Nothing to do: the log is the server's."""
        return True


def _begun_by(latest: float, work: Callable[[], Result]) -> Result:
    if time.monotonic() > latest:
        raise DatabaseUnavailable("The database is too slow. Try again.")
    return work()


@lru_cache(1_000)
def with_percents(statement: str) -> str:
    """Return a statement with its parameters as psycopg writes them, `%(name)s`."""
    return PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))


def reason(error: psycopg.Error) -> str:
    """Return an error's first line, without the values that PostgreSQL may tell in the others."""
    return (error.diag.message_primary or str(error).partition("\n")[0]).strip().rstrip(".")
