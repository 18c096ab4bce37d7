"""The tool calls that a person approved, beside the checkpoints: each is run at most once, on every branch."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from graph.storage.database import Database, storable

Json = dict[str, Any]

NAME = "approved_calls"
# A call's id alone is not enough: some models use the same ones in every message.
CREATE = f"""
CREATE TABLE IF NOT EXISTS {NAME} (
    thread_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    result TEXT,                   -- JSON; NULL while it runs, and where the process ended meanwhile
    PRIMARY KEY (thread_id, message_id, call_id)
)
"""
COLUMNS = "message_id, call_id, result"
BEGIN = f"""
INSERT INTO {NAME} (thread_id, message_id, call_id) VALUES (:thread, :message, :call) ON CONFLICT DO NOTHING
RETURNING call_id
"""
KNOWN = f"SELECT result FROM {NAME} WHERE thread_id = :thread AND message_id = :message AND call_id = :call"
END = f"""
UPDATE {NAME} SET result = :result WHERE thread_id = :thread AND message_id = :message AND call_id = :call
RETURNING call_id
"""


class ApprovedCalls:
    """The approved calls of a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, thread_id: str, message_id: str, call_id: str) -> Json | None:
        """Note that a call is run now; if it was begun before, return its result, without keys if that is not known.

        Raises:
            DatabaseUnavailable: the database does not answer; the call must not be run.
        """
        return await self._db.write(partial(self._begin, _key(thread_id, message_id, call_id)))

    def _begin(self, key: Mapping[str, str]) -> Json | None:
        if self._db.select(BEGIN, **key):
            return None
        [row] = self._db.select(KNOWN, **key)
        return dict(json.loads(row["result"] or "{}"))

    async def end(self, thread_id: str, message_id: str, call_id: str, result: Json) -> None:
        """Keep the result of a call, for other branches that approve it too.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        await self._db.do(END, result=json.dumps(result), **_key(thread_id, message_id, call_id))


def _key(thread_id: str, message_id: str, call_id: str) -> dict[str, str]:
    return {"thread": thread_id, "message": storable(message_id), "call": storable(call_id)}
