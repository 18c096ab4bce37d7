"""Threads in SQLite, in a file or in memory."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from typing_extensions import override

from graph.storage.database_file import DatabaseInUse, make_private, used_alone
from graph.storage.run_saver import Loaded, Put, PutCheckpoint, PutWrites
from graph.storage.saver import CheckpointUrlError, ThreadSaver
from graph.storage.sqlite_database import SqliteDatabase
from graph.storage.thread_rows import copy_thread, delete_runs, keep_latest

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


class CountingSerializer(JsonPlusSerializer):
    """LangGraph's serializer, which counts the bytes that it writes."""

    written = 0

    @override
    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = super().dumps_typed(obj)
        self.written += len(data)
        return kind, data


class SqliteThreads(ThreadSaver, SqliteSaver):
    """LangGraph's SQLite saver, in the database's thread.

    The methods without `await` may be called in any thread, as nodes that are plain functions do; those of ours are for
    use in the database's thread, inside `database.read` or `database.write`.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        # Strict: a row written by others must not be able to import code (CVE-2026-28277).
        self._counted = CountingSerializer(allowed_msgpack_modules=None)
        super().__init__(database.connection, serde=self._counted)
        self.database = database
        self.is_setup = True

    @override
    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """Yield a cursor; transactions are begun and committed by `database.write`."""
        with closing(self.conn.cursor()) as cursor:
            yield cursor

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.database.call(partial(super().get_tuple, config))

    @override
    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        listed = partial(super().list, config, **options)
        return iter(self.database.call(lambda: [*listed()]))

    @override
    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.database.call(partial(super().get_delta_channel_history, config=config, channels=channels))

    @override
    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.database.call(partial(super().put, config, checkpoint, metadata, new_versions))

    @override
    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.database.call(partial(super().put_writes, config, writes, task_id, task_path))

    @override
    def delete_thread(self, thread_id: str) -> None:
        self.database.call(partial(super().delete_thread, thread_id))

    def load(self, thread_id: str, checkpoint_id: str | None, channels: Sequence[str]) -> Loaded:
        """Return a checkpoint, or a thread's latest, and what it takes to rebuild these channels."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        if checkpoint_id is not None:
            config["configurable"]["checkpoint_id"] = checkpoint_id
        loaded = self.get_tuple(config)
        if loaded is None:
            return Loaded(None, {})
        rebuilt = [name for name in channels if name not in loaded.checkpoint["channel_values"]]
        return Loaded(loaded, self.get_delta_channel_history(config=loaded.config, channels=rebuilt))

    def store(self, puts: Sequence[Put]) -> int:
        """Store what a run has put, and return how many bytes that was."""
        before = self._counted.written
        for put in puts:
            match put:
                case PutCheckpoint():
                    self.put(*put)
                case PutWrites():
                    self.put_writes(*put)
        return self._counted.written - before

    @override
    async def check_writable(self) -> None:
        probe = "INSERT OR REPLACE INTO probes VALUES (1, ?)"
        await self.database.write(partial(self.conn.execute, probe, (time.time(),)))

    @override
    def times(self) -> Mapping[str, tuple[int, float]]:
        return self.database.times

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, or a thread's latest."""
        return await self.database.read(partial(self.get_tuple, config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name for it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, the newest first."""
        listed = partial(self.list, config, filter=filter, before=before, limit=limit)
        for checkpoint in await self.database.read(listed):
            yield checkpoint

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what it takes to rebuild channels of which a checkpoint has only the changes."""
        return await self.database.read(partial(self.get_delta_channel_history, config=config, channels=channels))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        return await self.database.write(partial(self.put, config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store the writes of a task."""
        await self.database.write(partial(self.put_writes, config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all of a thread."""
        await self.database.write(partial(self.delete_thread, thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete what runs of LangGraph's platform wrote; their threads are as they were before.

        Raises:
            StillNeeded: what came later is built on it.
        """
        await self.database.write(partial(delete_runs, self.conn, list(run_ids)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread to another one."""
        await self.database.write(partial(copy_thread, self.conn, source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete threads, or all of their checkpoints but the latest.

        Raises:
            StillNeeded: the latest checkpoint is built on those before it.
        """
        for thread_id in thread_ids:
            if strategy == "keep_latest":
                await self.database.write(partial(keep_latest, self.conn, thread_id))
            else:
                await self.adelete_thread(thread_id)
