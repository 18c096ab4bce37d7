"""Responses that are made in the background: how far they are, for every process of the database.

Whoever makes one says so every second, with what its stream has told since. One whose process has not been seen for
long is lost: it failed, and what it told is known.
"""

from collections.abc import Sequence
from functools import partial

from graph.storage.saver import ThreadSaver
from server.sessions.conversations import enter_session
from server.sessions.naming import Session
from server.sessions.records import AnsweredResponse
from server.sessions.responses import count_bytes, delete_events, enter_response
from tools.tasks import to_the_end

# Seconds between two beats, and without one until a response is lost.
BEAT, LOST = 1.0, 60.0
# Seconds for which the events are kept after the end.
KEPT = 600.0


class Progress:
    """The responses of a database that are made in the background, and those that were."""

    def __init__(self, saver: ThreadSaver) -> None:
        self._saver, self._db = saver, saver.database

    async def begin(self, session: Session, response: AnsweredResponse, *, is_streamed: bool) -> None:
        """Enter a response that begins, and its session; its events can be had later if it is streamed."""
        await self._db.write(partial(self._begin, session, response, is_streamed))

    def _begin(self, session: Session, response: AnsweredResponse, is_streamed: bool) -> None:
        enter_session(self._db, session)
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
        beat = (
            f"UPDATE responses SET beat = {self._db.clock} WHERE id = :id AND ended_at IS NULL RETURNING is_cancelled"
        )
        row = self._db.one(beat, id=response_id)
        if row is None:  # deleted with its session, or given up by another process
            return True
        self._enter_frames(session, response_id, first, frames)
        return bool(row["is_cancelled"])

    async def end(self, session: Session, response: AnsweredResponse, first: int, frames: bytes) -> None:
        """Note the end of a response, unless another process has; a turn that was stored tells its status."""
        await to_the_end(self._db.write(partial(self._end, session, response, first, frames)))

    def _end(self, session: Session, response: AnsweredResponse, first: int, frames: bytes) -> None:
        # One statement, so that only one of several has an effect.
        ended = self._db.one(
            f"UPDATE responses SET ended_at = {self._db.clock}, "
            "resource = CASE WHEN status = 'in_progress' THEN CAST(:resource AS {blob}) ELSE resource END, "
            "status = CASE WHEN status = 'in_progress' THEN CAST(:status AS TEXT) ELSE status END "
            "WHERE id = :id AND ended_at IS NULL RETURNING is_streamed".format(blob=self._db.blob),
            id=response.id,
            status=response.status,
            resource=response.resource,
        )
        if ended is None:
            return
        self._db.execute(count_bytes(self._saver.tables), thread=session.thread_id)
        if ended["is_streamed"]:
            self._enter_frames(session, response.id, first, frames)
        else:
            delete_events(self._db, session, response.id)

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

    async def told(self, session: Session, response_id: str, after: int = -1) -> Sequence[tuple[int, bytes]]:
        """Return what the stream of a response has told, in pieces: the number of the first event, and the frames.

        Pieces that only have events up to `after` are left out.
        """
        query = (
            "SELECT first, frames FROM response_events WHERE thread_id = :thread AND response = :id AND first >= "
            "(SELECT coalesce(max(first), 0) FROM response_events "
            "WHERE thread_id = :thread AND response = :id AND first <= :next) ORDER BY first"
        )
        rows = await self._db.rows(query, thread=session.thread_id, id=response_id, next=after + 1)
        return [(row["first"], bytes(row["frames"])) for row in rows]

    async def cancel(self, response_id: str) -> None:
        """Ask whichever process makes a response to stop it."""
        await self._db.do("UPDATE responses SET is_cancelled = TRUE WHERE id = :id RETURNING id", id=response_id)

    async def is_lost(self, response_id: str) -> bool:
        """Say whether the end of a response was not told, and its process has not been seen for long."""
        query = (
            "SELECT 1 FROM responses WHERE id = :id AND ended_at IS NULL "
            f"AND beat < {self._db.clock} - CAST(:lost AS DOUBLE PRECISION)"
        )
        return bool(await self._db.rows(query, id=response_id, lost=LOST))

    async def forget_old(self) -> None:
        """Delete events that are kept no longer."""
        await self._db.write(self._forget_old)

    def _forget_old(self) -> None:
        old = f"is_streamed AND ended_at < {self._db.clock} - {KEPT}"
        self._db.execute(
            "DELETE FROM response_events WHERE (thread_id, response) IN "
            f"(SELECT thread_id, id FROM responses WHERE {old})"
        )
        self._db.execute(f"UPDATE responses SET is_streamed = FALSE WHERE {old}")
