"""Threads in PostgreSQL, which several processes may use at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool
from typing_extensions import override

from graph.storage.postgres_database import SCHEMA_LOCK, Connection, PostgresDatabase, reason
from graph.storage.saver import CheckpointUrlError, CountingSerializer, ThreadSaver
from graph.storage.thread_rows import CREATE_OWN, ThreadTables

# Pieces of work at once. More threads cost more: they and the event loop wait for each other (benchmarks/replicas.py).
CONNECTIONS = 4
# Seconds that a connection may take to be made, and that a piece of work waits for one.
CONNECT_TIMEOUT = 5
# Seconds between two tries to be the one that makes the tables, and until that is given up.
SETUP_PAUSE, SETUP_TIMEOUT = 0.1, 300.0
# What a transaction waits for the rows of another, and for its own client: one whose machine is gone must let its rows
# go. Poolers do not take such options; there the role may have them (docs/scaling.md).
BOUNDS = "-c lock_timeout=3s -c idle_in_transaction_session_timeout=15s"

TABLES = ThreadTables(
    writes="checkpoint_writes",
    value="blob",
    blobs="checkpoint_blobs",
    run_id="metadata ->> 'run_id'",
    changes_only="coalesce(metadata -> 'counters_since_delta_snapshot', '{}') <> '{}'",
    of_a_whole_run="task_id ~ '^(ffffffff|0000[0-9]{4})-'",
    metadata_in="CASE WHEN metadata ? 'thread_id' "
    "THEN jsonb_set(metadata, '{thread_id}', to_jsonb(CAST(:target AS TEXT))) ELSE metadata END",
    bytes_of_session="(SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_blobs "
    "WHERE checkpoint_blobs.thread_id = sessions.thread_id) "
    "+ (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_writes "
    "WHERE checkpoint_writes.thread_id = sessions.thread_id)",
)
PROBES = 'CREATE TABLE IF NOT EXISTS probes ("only" INTEGER PRIMARY KEY, at DOUBLE PRECISION NOT NULL)'


@asynccontextmanager
async def open_postgres(url: str) -> "AsyncIterator[PostgresThreads]":
    """Open a database, with LangGraph's tables made or brought up to date, and close it at the end.

    Raises:
        CheckpointUrlError: it cannot be reached, or not be used.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its words may have a part of the password
        raise CheckpointUrlError(
            "CHECKPOINT_URL is no address of PostgreSQL: postgresql://user:password@host:5432/database, with special "
            "characters in the password as %XX."
        ) from None
    with (
        ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="database") as threads,
        ThreadPoolExecutor(1, thread_name_prefix="leases") as urgent,
    ):
        loop = asyncio.get_running_loop()
        how = {"autocommit": True, "row_factory": dict_row, "connect_timeout": CONNECT_TIMEOUT, **given}
        pool = ConnectionPool(
            connection_class=Connection,
            kwargs=how,
            min_size=1,
            max_size=CONNECTIONS + 2,  # also for urgent work, and for threads of others
            timeout=CONNECT_TIMEOUT,
            reconnect_timeout=CONNECT_TIMEOUT,
            configure=configure,
            check=check,
            open=False,
        )
        try:
            await loop.run_in_executor(threads, _prepare, pool, how)
            yield PostgresThreads(PostgresDatabase(pool, threads, urgent), pool)
        finally:
            await loop.run_in_executor(threads, pool.close)


def configure(connection: Connection) -> None:
    """Keep prepared statements off a connection through a pooler, which may give each transaction another server."""
    if is_pooled(connection):
        connection.prepare_threshold = None


def is_pooled(connection: psycopg.Connection[DictRow]) -> bool:
    """Say whether a pooler is before the server; it tells the client a number of its own for the server's process."""
    [row] = connection.execute("SELECT pg_backend_pid() AS pid").fetchall()
    return bool(row["pid"] != connection.info.backend_pid)


def check(connection: Connection) -> None:
    """Check that the server has not closed a connection, without asking it.

    Raises:
        psycopg.OperationalError: it has.
    """
    connection.pgconn.consume_input()


def _prepare(pool: ConnectionPool[Connection], how: dict[str, Any]) -> None:
    """Make the tables, which one process at a time does, and connect."""
    once = {**how, "prepare_threshold": None}
    try:
        with psycopg.connect(**once) as lock, psycopg.connect(**once) as connection:
            _make_tables(lock, connection)
            if not is_pooled(connection):
                how.setdefault("options", BOUNDS)
        pool.open(wait=True, timeout=CONNECT_TIMEOUT)
    except psycopg.Error as error:
        raise CheckpointUrlError(f"CHECKPOINT_URL: the database cannot be used: {reason(error)}.") from error


def _make_tables(lock: psycopg.Connection[DictRow], connection: psycopg.Connection[DictRow]) -> None:
    """Make LangGraph's tables, while a transaction of another connection holds the lock.

    It is tried for again and again: indexes are made concurrently, which waits for all who wait for a lock.
    """
    until = time.monotonic() + SETUP_TIMEOUT
    while time.monotonic() < until:
        with lock.transaction():
            query = f"SELECT pg_try_advisory_xact_lock({SCHEMA_LOCK}) AS is_mine"
            if lock.execute(query).fetchall()[0]["is_mine"]:
                PostgresSaver(connection).setup()
                connection.execute(PROBES)
                for statement in CREATE_OWN:
                    connection.execute(statement)
                return
        time.sleep(SETUP_PAUSE)
    raise CheckpointUrlError("CHECKPOINT_URL: another process has been changing the tables for too long. Look at it.")


class PostgresThreads(ThreadSaver, PostgresSaver):
    """LangGraph's PostgreSQL saver, on the connection of each piece of work."""

    tables = TABLES

    def __init__(self, database: PostgresDatabase, pool: ConnectionPool[Connection]) -> None:
        super().__init__(database, CountingSerializer(), conn=pool)
        self._connections = database

    @override
    @contextmanager
    def _cursor(self, *, pipeline: bool = False) -> Iterator[psycopg.Cursor[DictRow]]:
        """Yield a cursor; LangGraph's own takes one lock for all connections of a pool (langgraph#7259)."""
        with self._connections.connection.cursor(binary=True) as cursor:
            yield cursor
