"""Threads in SQLite, in a file or in memory."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

from langgraph.checkpoint.sqlite import SqliteSaver
from typing_extensions import override

from graph.storage.database_file import DatabaseInUse, make_private, used_alone
from graph.storage.saver import CheckpointUrlError, CountingSerializer, ThreadSaver
from graph.storage.sqlite_database import SqliteDatabase
from graph.storage.thread_rows import CREATE_OWN, ThreadTables

TABLES = ThreadTables(
    writes="writes",
    value="value",
    blobs=None,
    run_id="json_extract(CAST(metadata AS TEXT), '$.run_id')",
    changes_only="coalesce(json_extract(CAST(metadata AS TEXT), '$.counters_since_delta_snapshot'), '{}') != '{}'",
    of_a_whole_run="(task_id LIKE 'ffffffff-%' OR task_id GLOB '0000[0-9][0-9][0-9][0-9]-*')",
    metadata_in="CAST(json_replace(CAST(metadata AS TEXT), '$.thread_id', :target) AS BLOB)",
    bytes_of_session="(SELECT coalesce(sum(length(checkpoint)), 0) FROM checkpoints "
    "WHERE checkpoints.thread_id = sessions.thread_id) "
    "+ (SELECT coalesce(sum(length(value)), 0) FROM writes WHERE writes.thread_id = sessions.thread_id)",
)
PROBES = "CREATE TABLE IF NOT EXISTS probes (only INTEGER PRIMARY KEY, at REAL NOT NULL)"


@asynccontextmanager
async def open_sqlite(path: Path | None) -> "AsyncIterator[SqliteThreads]":
    """Open a database in a file, or in memory, and close it at the end.

    Raises:
        CheckpointUrlError: it is not a SQLite database, or cannot be used.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="database") as thread:
        connection = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        try:
            yield SqliteThreads(SqliteDatabase(connection, thread, path))
        finally:
            thread.submit(connection.close)


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        SqliteSaver(connection).setup()
        connection.execute(PROBES)
        for statement in CREATE_OWN:
            connection.execute(statement)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise CheckpointUrlError(f"CHECKPOINT_URL: {path} cannot be used: {error}.") from error
    return connection


@contextmanager
def claimed_file(path: Path) -> Iterator[None]:
    """Keep other processes from using a database file, which is made if it does not exist.

    Raises:
        CheckpointUrlError: another process uses it, or it cannot be written.
    """
    with ExitStack() as claim:
        try:
            make_private(path)
            claim.enter_context(used_alone(path))
        except DatabaseInUse as error:
            raise CheckpointUrlError(f"CHECKPOINT_URL: {error}") from error
        except OSError as error:
            raise CheckpointUrlError(f"CHECKPOINT_URL: {path} cannot be written: {error.strerror}.") from error
        yield


class SqliteThreads(ThreadSaver, SqliteSaver):
    """LangGraph's SQLite saver, in the database's thread."""

    tables = TABLES

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database, CountingSerializer(), conn=database.connection)
        self.is_setup = True

    @override
    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """Yield a cursor; transactions are begun and committed by `database.write`."""
        with closing(self.conn.cursor()) as cursor:
            yield cursor
