"""Responses that are made in the background: how far they are, for every process of the database.

Whoever makes one says so every second, with what its stream has told since. One whose process has not been seen for
long is lost: it failed, and what it told is known.
"""

from collections.abc import Sequence
from functools import partial

from graph.storage.database import Database
from server.sessions.naming import Session
from server.sessions.records import AnsweredResponse
from server.sessions.responses import enter_response
from tools.tasks import to_the_end

# Seconds between two beats, and without one until a response is lost.
BEAT, LOST = 1.0, 60.0
# Seconds for which the events are kept after the end.
KEPT = 600.0


class Progress:
    """The responses of a database that are made in the background, and those that were."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, session: Session, response: AnsweredResponse, *, is_streamed: bool) -> None:
        """Enter a response that begins; its events can be had later if it is streamed."""
        await self._db.write(partial(self._begin, session, response, is_streamed))

    def _begin(self, session: Session, response: AnsweredResponse, is_streamed: bool) -> None:
        enter_response(self._db, session, response)
        self._db.execute(
            f"UPDATE responses SET beat = {self._db.clock}, is_streamed = :is_streamed WHERE id = :id",
            id=response.id,
            is_streamed=is_streamed,
        )

    async def note(self, session: Session, response_id: str, first: int, frames: bytes) -> bool:
        """Note that a response is still made, and what its stream has told; return whether it is to be stopped."""
        return await to_the_end(self._db.write(partial(self._note, session, response_id, first, frames)))

    def _note(self, session: Session, response_id: str, first: int, frames: bytes) -> bool:
        row = self._db.one("SELECT is_cancelled FROM responses WHERE id = :id", id=response_id)
        if row is None:  # deleted, with its session
            return True
        self._db.execute(f"UPDATE responses SET beat = {self._db.clock} WHERE id = :id", id=response_id)
        self._enter_frames(session, response_id, first, frames)
        return bool(row["is_cancelled"])

    async def end(self, session: Session, response: AnsweredResponse, first: int, frames: bytes) -> None:
        """Note the end of a response; the transaction that has stored its turn, if there is one, has told more."""
        await to_the_end(self._db.write(partial(self._end, session, response, first, frames)))

    def _end(self, session: Session, response: AnsweredResponse, first: int, frames: bytes) -> None:
        if self._db.one("SELECT 1 FROM responses WHERE id = :id", id=response.id) is None:
            return
        self._db.execute(
            "UPDATE responses SET status = :status, resource = :resource WHERE id = :id AND status = 'in_progress'",
            id=response.id,
            status=response.status,
            resource=response.resource,
        )
        self._db.execute(f"UPDATE responses SET ended_at = {self._db.clock} WHERE id = :id", id=response.id)
        self._enter_frames(session, response.id, first, frames)

    def _enter_frames(self, session: Session, response_id: str, first: int, frames: bytes) -> None:
        if frames:
            self._db.execute(
                "INSERT INTO response_events VALUES (:thread, :response, :first, :frames) "
                "ON CONFLICT (thread_id, response, first) DO UPDATE SET frames = excluded.frames",
                thread=session.thread_id,
                response=response_id,
                first=first,
                frames=frames,
            )

    async def told(self, session: Session, response_id: str) -> Sequence[bytes]:
        """Return what the stream of a response has told: its frames, in pieces."""
        query = "SELECT frames FROM response_events WHERE thread_id = :thread AND response = :id ORDER BY first"
        rows = await self._db.rows(query, thread=session.thread_id, id=response_id)
        return [bytes(row["frames"]) for row in rows]

    async def cancel(self, response_id: str) -> None:
        """Ask whichever process makes a response to stop it."""
        await self._db.do("UPDATE responses SET is_cancelled = TRUE WHERE id = :id RETURNING id", id=response_id)

    async def is_lost(self, response_id: str) -> bool:
        """Say whether a response is in progress, but its process has not been seen for long."""
        query = (
            "SELECT 1 FROM responses WHERE id = :id AND status = 'in_progress' "
            f"AND (beat IS NULL OR beat < {self._db.clock} - :lost)"
        )
        return bool(await self._db.rows(query, id=response_id, lost=LOST))

    async def forget_old(self, before: float) -> None:
        """Delete events that are kept no longer, and responses from before a Unix time that came to no session."""
        await self._db.write(partial(self._forget_old, before))

    def _forget_old(self, before: float) -> None:
        old = f"SELECT id FROM responses WHERE is_streamed AND ended_at < {self._db.clock} - {KEPT}"
        self._db.execute(f"DELETE FROM response_events WHERE response IN ({old})")
        self._db.execute(f"UPDATE responses SET is_streamed = FALSE WHERE id IN ({old})")
        orphans = (
            "SELECT id FROM responses WHERE created_at < :before "
            "AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.thread_id = responses.thread_id)"
        )
        self._db.execute(f"DELETE FROM response_events WHERE response IN ({orphans})", before=before)
        self._db.execute(f"DELETE FROM responses WHERE id IN ({orphans})", before=before)
