"""The checkpoints of one run: what it starts from is read before, what it writes is stored after it, with its turn."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_id,
)


class Loaded(NamedTuple):
    """A checkpoint, and what it takes to rebuild channels of which it has only the changes."""

    checkpoint: CheckpointTuple | None
    histories: Mapping[str, DeltaChannelHistory]

    def length(self, channel: str) -> int:
        """Return how many values a channel that is a list has, or takes to rebuild."""
        if self.checkpoint is None:
            return 0
        whole = self.checkpoint.checkpoint["channel_values"].get(channel)
        history = self.histories.get(channel, {"writes": []})
        seed = history.get("seed")
        pieces = (whole, getattr(seed, "value", seed), *(value for _, _, value in history["writes"]))
        return sum(len(piece) if isinstance(piece, list) else piece is not None for piece in pieces)


class PutCheckpoint(NamedTuple):
    """A checkpoint to be stored: the arguments of a saver's `put`."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: ChannelVersions

    @property
    def own_config(self) -> RunnableConfig:
        """The config that names the checkpoint; `config` names the one before it."""
        return {"configurable": {**_thread(self.config), "checkpoint_id": self.checkpoint["id"]}}


class PutWrites(NamedTuple):
    """Writes to be stored: the arguments of a saver's `put_writes`."""

    config: RunnableConfig
    writes: Sequence[tuple[str, Any]]
    task_id: str
    task_path: str


Put = PutCheckpoint | PutWrites


class RunSaver(BaseCheckpointSaver[str]):
    """A checkpointer for one run, which writes nothing itself.

    Args:
        stored: the database's saver, for what was not read before.
        start: the checkpoint that the run starts from.
        named: the id under which the run asks for it; None where it asks for its thread's latest checkpoint.
    """

    def __init__(self, stored: BaseCheckpointSaver[str], start: Loaded, named: str | None) -> None:
        self.serde = stored.serde
        self._stored, self._start, self._named = stored, start, named
        self.puts: list[Put] = []
        """What the run has written, in order."""

    @property
    def last_checkpoint_id(self) -> str | None:
        """The id of the checkpoint that the run wrote last, those of graphs within it aside."""
        return next((put.checkpoint["id"] for put in self._checkpoints("")), None)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint: one of the run's own, the one that was read before, or a stored one."""
        found = self._known(config) or (None if self._is_start(config) else self._stored.get_tuple(config))
        return self._with_writes(found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return what `get_tuple` does."""
        found = self._known(config) or (None if self._is_start(config) else await self._stored.aget_tuple(config))
        return self._with_writes(found)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """Yield stored checkpoints, the newest first."""
        return self._stored.list(config, **options)

    def alist(self, config: RunnableConfig | None, **options: Any) -> AsyncIterator[CheckpointTuple]:
        """Yield stored checkpoints, the newest first."""
        return self._stored.alist(config, **options)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what it takes to rebuild channels of which a checkpoint has only the changes."""
        if self._own(config):  # walks the checkpoints one by one, through `get_tuple`
            return super().get_delta_channel_history(config=config, channels=channels)
        read = self._read_before(config, channels)
        return self._stored.get_delta_channel_history(config=config, channels=channels) if read is None else read

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what `get_delta_channel_history` does."""
        if self._own(config):
            return await super().aget_delta_channel_history(config=config, channels=channels)
        read = self._read_before(config, channels)
        return await self._stored.aget_delta_channel_history(config=config, channels=channels) if read is None else read

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Take in a checkpoint."""
        put = PutCheckpoint(config, checkpoint, metadata, new_versions)
        self.puts.append(put)
        return put.own_config

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Take in a checkpoint."""
        return self.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Take in the writes of a task."""
        self.puts.append(PutWrites(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Take in the writes of a task."""
        self.put_writes(config, writes, task_id, task_path)

    # LangGraph inspects it with each run, which takes 1 % of a turn where it is made anew.
    aput_writes.__signature__ = signature(aput_writes)  # type: ignore[attr-defined]

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return the version after this one, as the stored saver numbers them."""
        return self._stored.get_next_version(current, channel)

    def _checkpoints(self, namespace: str) -> Iterator[PutCheckpoint]:
        """Yield the run's own checkpoints, the newest first."""
        for put in reversed(self.puts):
            if isinstance(put, PutCheckpoint) and _thread(put.config)["checkpoint_ns"] == namespace:
                yield put

    def _own(self, config: RunnableConfig) -> CheckpointTuple | None:
        wanted = get_checkpoint_id(config)
        for put in self._checkpoints(_thread(config)["checkpoint_ns"]):
            if wanted in (None, put.checkpoint["id"]):
                before = put.config if get_checkpoint_id(put.config) else None
                return CheckpointTuple(put.own_config, put.checkpoint, put.metadata, before, [])
        return None

    def _known(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._own(config) or (self._start.checkpoint if self._is_start(config) else None)

    def _is_start(self, config: RunnableConfig) -> bool:
        ids = {self._named, self._start.checkpoint.checkpoint["id"] if self._start.checkpoint else self._named}
        return not _thread(config)["checkpoint_ns"] and get_checkpoint_id(config) in ids

    def _read_before(self, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, DeltaChannelHistory] | None:
        if not self._is_start(config) or not self._start.histories.keys() >= set(channels):
            return None
        return {name: self._start.histories[name] for name in channels}

    def _with_writes(self, found: CheckpointTuple | None) -> CheckpointTuple | None:
        if found is None:
            return None
        return found._replace(pending_writes=[*(found.pending_writes or ()), *self._writes_to(found.config)])

    def _writes_to(self, config: RunnableConfig) -> Sequence[PendingWrite]:
        """Return the run's own writes to a checkpoint."""
        return [
            (put.task_id, channel, value)
            for put in self.puts
            if isinstance(put, PutWrites) and _key(put.config) == _key(config)
            for channel, value in put.writes
        ]


def _thread(config: RunnableConfig) -> dict[str, str]:
    at = config["configurable"]
    return {"thread_id": str(at["thread_id"]), "checkpoint_ns": at.get("checkpoint_ns", "")}


def _key(config: RunnableConfig) -> tuple[object, ...]:
    return *_thread(config).values(), get_checkpoint_id(config)
