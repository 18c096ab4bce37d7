"""The interface of a database of threads: LangGraph's checkpointer, and more. Each database has a file here."""

import threading
import time
from abc import ABC
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, ClassVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from typing_extensions import override

from graph.storage.database import Database
from graph.storage.run_saver import Loaded, Put, PutCheckpoint, PutWrites
from graph.storage.thread_rows import OWN, ThreadTables, copy_thread, delete_runs, keep_latest


class CheckpointUrlError(ValueError):
    """CHECKPOINT_URL cannot be used; the message says what it may be."""


class CountingSerializer(JsonPlusSerializer):
    """LangGraph's serializer, which counts the bytes that it writes in each thread."""

    def __init__(self) -> None:
        # Strict: a row written by others must not be able to import code (CVE-2026-28277).
        super().__init__(allowed_msgpack_modules=None)
        self._counted = threading.local()

    @property
    def written(self) -> int:
        """The bytes written in this thread."""
        written: int = getattr(self._counted, "bytes", 0)
        return written

    @override
    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = super().dumps_typed(obj)
        self._counted.bytes = self.written + len(data)
        return kind, data


class ThreadSaver(BaseCheckpointSaver[str], ABC):
    """A checkpointer whose reads and writes are pieces of work of a database; LangGraph's saver is its other base.

    The methods without `await` may be called in any thread, as nodes that are plain functions do; `load` and `store`
    are for use inside a piece of work.
    """

    tables: ClassVar[ThreadTables]

    def __init__(self, database: Database, counted: CountingSerializer, **options: Any) -> None:
        super().__init__(serde=counted, **options)
        self.database, self._counted = database, counted

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
        for name in OWN:
            self.database.call(partial(self.database.delete_rows, name, thread_id, inf))

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

    async def check_writable(self) -> None:
        """Commit a row: only a committed write shows a full disk, a lock, or a file that is gone.

        Raises:
            Exception: the database's own, if the row cannot be written.
        """
        probe = 'INSERT INTO probes VALUES (1, :now) ON CONFLICT ("only") DO UPDATE SET at = excluded.at'
        await self.database.write(partial(self.database.execute, probe, now=time.time()))

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self.database.read(partial(self.get_tuple, config))

    @override
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        listed = partial(self.list, config, filter=filter, before=before, limit=limit)
        for checkpoint in await self.database.read(listed):
            yield checkpoint

    @override
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self.database.read(partial(self.get_delta_channel_history, config=config, channels=channels))

    @override
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self.database.write(partial(self.put, config, checkpoint, metadata, new_versions))

    @override
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self.database.write(partial(self.put_writes, config, writes, task_id, task_path))

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        await self.database.write(partial(self.delete_thread, thread_id))

    @override
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self.database.write(partial(delete_runs, self.database, self.tables, run_ids))

    @override
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self.database.write(partial(copy_thread, self.database, self.tables, source_thread_id, target_thread_id))

    @override
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            if strategy == "keep_latest":
                await self.database.write(partial(keep_latest, self.database, self.tables, thread_id))
            else:
                await self.adelete_thread(thread_id)
