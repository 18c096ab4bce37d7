"""The interface of a database of threads: LangGraph's checkpointer, and more. Each database has a file here."""

from abc import ABC, abstractmethod
from contextvars import ContextVar
from typing import NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver


class CheckpointUrlError(ValueError):
    """CHECKPOINT_URL cannot be used; the message says what it may be."""


class Written(NamedTuple):
    """What a run wrote: the namespaces and ids of checkpoints, and those of writes with the ids of their tasks."""

    checkpoints: list[tuple[str, str]]
    writes: list[tuple[str, str, str]]


written_by_run: ContextVar[Written | None] = ContextVar("written_by_run", default=None)
"""Where the writes of the current run are noted; None if they are not asked for, as in Studio's runs."""


def noting() -> Written:
    """Note what the current run writes from now on, and return the notes."""
    written = Written([], [])
    written_by_run.set(written)
    return written


class ThreadSaver(BaseCheckpointSaver[str], ABC):
    """A checkpointer whose writes are atomic, even if the run that asked for them is cancelled.

    It notes what it writes in `written_by_run`.
    """

    @abstractmethod
    async def idle(self) -> None:
        """Wait for the writes that outlived their runs."""

    @abstractmethod
    async def check_writable(self) -> None:
        """Commit a row: only a committed write shows a full disk, a lock, or a file that is gone.

        Raises:
            Exception: the database's own, if the row cannot be written.
        """

    @abstractmethod
    async def latest(self, thread_id: str, among: str) -> tuple[str | None, bool]:
        """Return the id of LangGraph's latest checkpoint of a thread, and whether the thread has `among`."""

    @abstractmethod
    async def written_last(self, thread_id: str) -> str | None:
        """Return the id of the checkpoint that was written last; ids follow the clock, which may be set back."""

    @abstractmethod
    async def forget(self, thread_id: str, written: Written) -> None:
        """Delete what a run wrote to a thread."""
