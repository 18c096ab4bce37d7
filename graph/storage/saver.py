"""The interface of a database of threads: LangGraph's checkpointer, and more. Each database has a file here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from langgraph.checkpoint.base import BaseCheckpointSaver


class CheckpointUrlError(ValueError):
    """CHECKPOINT_URL cannot be used; the message says what it may be."""


class ThreadSaver(BaseCheckpointSaver[str], ABC):
    """A checkpointer of which each write is one transaction, also if the run that asked for it is cancelled."""

    @abstractmethod
    async def check_writable(self) -> None:
        """Commit a row: only a committed write shows a full disk, a lock, or a file that is gone.

        Raises:
            Exception: the database's own, if the row cannot be written.
        """

    @abstractmethod
    def times(self) -> Mapping[str, tuple[int, float]]:
        """Return for each kind of the database's work how many pieces there were, and their seconds together."""
