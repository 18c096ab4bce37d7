"""The session index: which sessions there are, and which turns they have, beside the checkpoints in one database.

A turn, its checkpoints and its session are stored in one transaction. So a process that is killed, or a run that fails,
leaves nothing of a turn that was not answered.

Each kind of database implements the index in a file of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.base import BaseCheckpointSaver

from graph.storage.run_saver import Loaded, Put
from server.errors import NotFound
from server.sessions.naming import Session
from server.sessions.reconcile import Habit, Knowledge, KnownTurn, Mode, Step
from server.sessions.transcript import Transcript


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A session as its owner may see it; times are Unix times in seconds, `turns` those of the newest branch.

    `bytes` is what all its turns have stored.
    """

    session: Session
    created_at: float
    updated_at: float
    turns: int
    branches: int
    bytes: int
    waiting: bool
    agent: str
    """The agent that answered last."""

    @property
    def is_single(self) -> bool:
        """Whether it has only one question and its answer."""
        return self.turns <= 1 and self.branches <= 1


@dataclass(frozen=True, kw_only=True)
class AnsweredTurn:
    """An answered turn, as it is entered into the index."""

    step: Step
    asked: bytes
    digest: bytes
    waiting: Sequence[str]
    checkpoint_id: str
    agent: str
    habit: Habit | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a request goes on in its session."""

    known: Knowledge
    step: Step
    start: Loaded
    """The checkpoint of the turn that the step follows, if the agent that is asked can read it."""
    is_latest: bool
    """Whether that is the thread's latest checkpoint, as LangGraph finds it, or the thread has none."""


class SessionIndex(ABC):
    """The sessions and turns of a database."""

    is_clean = True
    """Whether the database's log is free of deleted data."""

    @abstractmethod
    async def find(
        self, session: Session, transcript: Transcript, mode: Mode, agent: str, saver: BaseCheckpointSaver[str]
    ) -> Found:
        """Reconcile a request's messages with what its session knows of them, and load the checkpoint there.

        It is loaded by the saver of the agent that is asked, if that one answered there: no graph can read another's.

        The cost does not depend on the session's number of turns. Turns whose checkpoints were deleted by others, such
        as Studio, are forgotten.

        Raises:
            UnpairedMessage: tool results without their calls, or calls without all of their results.
            NotFound: the thread is another principal's.
            DatabaseMoved: the database file is no longer at its path.
        """

    @abstractmethod
    async def store(self, session: Session, turn: AnsweredTurn, puts: Sequence[Put]) -> None:
        """Store a turn with what its run put, in one transaction; it becomes the newest of its session."""

    @abstractmethod
    async def get(self, session: Session) -> SessionRecord | None:
        """Return a session's record, or None if there is no such session of the principal."""

    @abstractmethod
    async def waiting_for(self, principal: str, messages: Sequence[AnyMessage]) -> Session | None:
        """Return the principal's session that waits for the tool results at the end of the messages, if one does."""

    @abstractmethod
    async def count(self) -> int:
        """Return how many sessions there are."""

    @abstractmethod
    async def stored_by(self, principal: str) -> int:
        """Return how many bytes the turns of a principal's sessions have stored."""

    @abstractmethod
    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        """Return a principal's sessions, the one last used first; `after` is the last one of the page before.

        Raises:
            NotFound: there is no session `after`.
        """

    @abstractmethod
    async def end_of_branch(self, session: Session, branch: int | None) -> KnownTurn | None:
        """Return a branch's last turn, or the newest turn of all; None where there is none."""

    @abstractmethod
    async def reset(self, session: Session) -> None:
        """Forget all turns of a session and keep its id."""

    @abstractmethod
    async def delete(self, session: Session) -> None:
        """Delete all of a session; no copy stays in the database's files."""

    @abstractmethod
    async def clean_up(self) -> None:
        """Remove deleted data from the database's log too; while another process reads it, call this again later."""

    @abstractmethod
    async def idle_since(self, one_turn: float, more_turns: float, *, limit: int) -> list[Session]:
        """Return sessions last used before these times: one for sessions of a single turn, one for those of more.

        For an empty session it is the later one.
        """


def unknown_session(session: Session) -> NotFound:
    """Return the error for a session that does not exist, or is another principal's."""
    return NotFound(f"There is no session {session.id!r}.", code="session_not_found")
