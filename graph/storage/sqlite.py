"""Threads in SQLite, in a file or in memory."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from typing_extensions import override

from graph.storage.database_file import DatabaseFile, DatabaseInUse, make_private, used_alone
from graph.storage.saver import CheckpointUrlError, ThreadSaver, Written, written_by_run
from graph.storage.thread_rows import copy_thread, delete_runs, keep_latest
from graph.storage.write_lock import WriteLock

PROBES = "CREATE TABLE IF NOT EXISTS probes (only INTEGER PRIMARY KEY, at REAL NOT NULL)"

Result = TypeVar("Result")


@asynccontextmanager
async def open_sqlite(path: Path | None) -> "AsyncIterator[SqliteThreads]":
    """Open a database in a file, or in memory, and close it at the end.

    Raises:
        CheckpointUrlError: it is not a SQLite database, or cannot be used.
    """
    # Strict: a row written by others must not be able to import code (CVE-2026-28277).
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    async with aiosqlite.connect(path or ":memory:") as connection:
        connection.row_factory = sqlite3.Row
        saver = SqliteThreads(connection, serde=serde)
        try:
            await connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
            await saver.setup()
            await connection.execute(PROBES)
        except sqlite3.DatabaseError as error:
            raise CheckpointUrlError(f"CHECKPOINT_URL: {path} cannot be used: {error}.") from error
        saver.file = DatabaseFile(path) if path else None
        yield saver
        await saver.idle()


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


class SqliteThreads(ThreadSaver, AsyncSqliteSaver):
    """The SQLite saver; its writes run to their commit even if the run that asked for them is cancelled.

    A write cancelled between its execute and its commit leaves a transaction open, which locks the database for
    all other writers and is committed with the next write.
    """

    file: DatabaseFile | None = None
    """The database file; None for a database in memory."""

    def __init__(self, connection: aiosqlite.Connection, *, serde: JsonPlusSerializer) -> None:
        super().__init__(connection, serde=serde)
        self.lock = self.write_lock = WriteLock(connection)
        self._writes: set[asyncio.Task[Any]] = set()

    @override
    async def idle(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Write beside the checkpoints in one transaction.

        Raises:
            DatabaseMoved: the file that was written is no longer at its path.
        """
        async with self.lock:
            yield self.conn
            await self.conn.commit()
        await self.check_file()

    async def check_file(self) -> None:
        """Check that the written file is still at its path.

        Raises:
            DatabaseMoved: the database file was deleted, moved away or replaced.
        """
        if self.file:
            await asyncio.to_thread(self.file.check)

    @override
    async def check_writable(self) -> None:
        await self._to_its_end(self._write_probe())

    async def _write_probe(self) -> None:
        async with self.transaction() as db:
            await db.execute("INSERT OR REPLACE INTO probes VALUES (1, ?)", (time.time(),))

    async def select(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Read all rows at once: a statement left open would keep the log from being emptied."""
        return list(await self.conn.execute_fetchall(query, values))

    async def truncate_log(self) -> bool:
        """Empty the write-ahead log, which may still hold what was deleted; not while another process reads."""
        async with self.write_lock.without_waiting():  # turns must not wait for it
            (result,) = await self.select("PRAGMA wal_checkpoint(TRUNCATE)")
        return not result["busy"]

    @override
    async def latest(self, thread_id: str, among: str) -> tuple[str | None, bool]:
        (row,) = await self.select(
            "SELECT max(checkpoint_id) AS latest, coalesce(max(checkpoint_id = ?), FALSE) AS is_there "
            "FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ''",
            among,
            thread_id,
        )
        return row["latest"], bool(row["is_there"])

    @override
    async def written_last(self, thread_id: str) -> str | None:
        rows = await self.select(
            "SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '' "
            "ORDER BY rowid DESC LIMIT 1",
            thread_id,
        )
        return rows[0]["checkpoint_id"] if rows else None

    @override
    async def forget(self, thread_id: str, written: Written) -> None:
        checkpoint = "thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
        async with self.transaction() as db:
            for table in ("checkpoints", "writes"):
                rows = [(thread_id, *key) for key in written.checkpoints]
                await db.executemany(f"DELETE FROM {table} WHERE {checkpoint}", rows)
            rows_of_tasks = [(thread_id, *key) for key in written.writes]
            await db.executemany(f"DELETE FROM writes WHERE {checkpoint} AND task_id = ?", rows_of_tasks)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint in one transaction."""
        if written := written_by_run.get():
            written.checkpoints.append((config["configurable"].get("checkpoint_ns", ""), checkpoint["id"]))
        return await self._to_its_end(super().aput(config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task in one transaction."""
        if written := written_by_run.get():
            at = config["configurable"]
            written.writes.append((at.get("checkpoint_ns", ""), at["checkpoint_id"], task_id))
        await self._to_its_end(super().aput_writes(config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all of a thread in one transaction."""
        await self._to_its_end(super().adelete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete what runs of LangGraph's platform wrote; their threads are as they were before.

        Raises:
            StillNeeded: what came later is built on it.
        """
        await self._to_its_end(self._write(delete_runs, list(run_ids)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread to another one."""
        await self._to_its_end(self._write(copy_thread, source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete threads, or all of their checkpoints but the latest.

        Raises:
            StillNeeded: the latest checkpoint is built on those before it.
        """
        for thread_id in thread_ids:
            if strategy == "keep_latest":
                await self._to_its_end(self._write(keep_latest, thread_id))
            else:
                await self.adelete_thread(thread_id)

    async def _write(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        async with self.transaction() as db:
            await work(db, *arguments)

    async def _to_its_end(self, write: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.ensure_future(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)
