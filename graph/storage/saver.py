"""What a database of threads does beside being LangGraph's checkpointer; each database implements it in a file here."""

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
"""Where the run that this code is in has its writes noted; None where nobody asks, as in Studio's runs."""


def noting() -> Written:
    """Return a list, empty yet, of what the run that this is called in writes from now on."""
    written = Written([], [])
    written_by_run.set(written)
    return written


class ThreadSaver(BaseCheckpointSaver[str], ABC):
    """A checkpointer whose writes are whole or not there, though the run that asked for them is cancelled.

    It notes what it writes in `written_by_run`.
    """

    @abstractmethod
    async def idle(self) -> None:
        """Wait for the writes that outlived their runs."""

    @abstractmethod
    async def check_writable(self) -> None:
        """Write a row to the disk: only a committed write meets a full disk, a lock or a file that is gone.

        Raises:
            Exception: the database's own, if the row cannot be written.
        """

    @abstractmethod
    async def latest(self, thread_id: str, among: str) -> tuple[str | None, bool]:
        """Return the id that LangGraph takes for a thread's latest checkpoint, and whether one is `among` them."""

    @abstractmethod
    async def written_last(self, thread_id: str) -> str | None:
        """Return the id of a thread's checkpoint that was written last; ids tell the time, which may be set back."""

    @abstractmethod
    async def forget(self, thread_id: str, written: Written) -> None:
        """Delete what a run wrote to a thread."""
