"""Summaries of the beginnings of threads, beside the checkpoints, for every branch that has the summarized messages."""

from collections.abc import Mapping
from functools import partial

from graph.storage.database import Database, storable

NAME = "summaries"
CREATE = f"""
CREATE TABLE IF NOT EXISTS {NAME} (
    thread_id TEXT NOT NULL,
    message_id TEXT NOT NULL,      -- the last message that is summarized
    summary TEXT NOT NULL,
    PRIMARY KEY (thread_id, message_id)
)
"""
COLUMNS = "message_id, summary"
KEEP = f"""
INSERT INTO {NAME} (thread_id, message_id, summary) VALUES (:thread, :message, :summary)
ON CONFLICT (thread_id, message_id) DO UPDATE SET summary = excluded.summary
"""


class Summaries:
    """The summaries of a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def of(self, thread_id: str) -> Mapping[str, str]:
        """Return the summaries of a thread, by the ids of the last messages that they cover.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        rows = await self._db.rows(f"SELECT {COLUMNS} FROM {NAME} WHERE thread_id = :thread", thread=thread_id)
        return {row["message_id"]: row["summary"] for row in rows}

    async def keep(self, thread_id: str, message_id: str, summary: str) -> None:
        """Keep a summary of all messages up to and with one.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        await self._db.write(partial(enter_summaries, self._db, thread_id, {message_id: summary}))


def enter_summaries(db: Database, thread_id: str, summaries: Mapping[str, str]) -> None:
    """Enter summaries, by the ids of the last messages that they cover."""
    for message_id, summary in summaries.items():
        db.execute(KEEP, thread=thread_id, message=storable(message_id), summary=storable(summary))
