"""Sessions as the Responses API makes them: before their first turn, and with what their owner notes of them."""

import json
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from graph.storage.database import Database
from server.sessions.naming import Session

ENTER = """
INSERT INTO sessions (thread_id, principal, id, created_at, updated_at, metadata)
VALUES (:thread, :principal, :id, :now, :now, :metadata) ON CONFLICT (thread_id) DO NOTHING
"""


class Conversations:
    """The sessions of a database, by what is noted of them; each method is one read or one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def make(self, session: Session, metadata: Mapping[str, str]) -> None:
        """Make a session without turns."""
        await self._db.write(partial(enter_session, self._db, session, metadata))

    async def metadata(self, session: Session) -> Mapping[str, str]:
        """Return what is noted of a session."""
        query = "SELECT metadata FROM sessions WHERE thread_id = :thread"
        rows = await self._db.rows(query, thread=session.thread_id)
        noted: Mapping[str, str] = json.loads(rows[0]["metadata"]) if rows else {}
        return noted

    async def note(self, session: Session, metadata: Mapping[str, str]) -> None:
        """Note something else of a session."""
        await self._db.do(
            "UPDATE sessions SET metadata = :metadata WHERE thread_id = :thread RETURNING id",
            thread=session.thread_id,
            metadata=json.dumps(metadata),
        )


def enter_session(db: Database, session: Session, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
    """Enter a session into the database, in a transaction, unless it is there."""
    named = {"thread": session.thread_id, "principal": session.principal, "id": session.id}
    db.execute(ENTER, **named, now=time.time(), metadata=json.dumps(dict(metadata)))
