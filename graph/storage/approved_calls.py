"""The tool calls that a person approved, beside the checkpoints: each is run at most once, on every branch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    arguments TEXT NOT NULL,       -- JSON: those that it was run with
    result TEXT,                   -- JSON; NULL while it runs, and where the process ended meanwhile
    PRIMARY KEY (thread_id, message_id, call_id)
)
"""
COLUMNS = "message_id, call_id, arguments, result"
BEGIN = f"""
INSERT INTO {NAME} (thread_id, message_id, call_id, arguments) VALUES (:thread, :message, :call, :arguments)
ON CONFLICT DO NOTHING RETURNING call_id
"""
KNOWN = f"SELECT call_id, arguments, result FROM {NAME} WHERE thread_id = :thread AND message_id = :message"
END = f"""
UPDATE {NAME} SET result = :result WHERE thread_id = :thread AND message_id = :message AND call_id = :call
RETURNING call_id
"""


@dataclass(frozen=True)
class ApprovedCall:
    """A call that was begun: the arguments that it was run with, and what is known of its result, by its fields."""

    arguments: Mapping[str, Any]
    result: Mapping[str, Any]


class ApprovedCalls:
    """The approved calls of a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begun(self, thread_id: str, message_id: str) -> Mapping[str, ApprovedCall]:
        """Return the calls of a message that were begun, by their ids.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        rows = await self._db.rows(KNOWN, thread=thread_id, message=storable(message_id))
        return {
            row["call_id"]: ApprovedCall(json.loads(row["arguments"]), json.loads(row["result"] or "{}"))
            for row in rows
        }

    async def begin(self, thread_id: str, message_id: str, call_id: str, arguments: Mapping[str, Any]) -> bool:
        """Note that a call is run now; return False if it was begun before.

        Raises:
            DatabaseUnavailable: the database does not answer; the call must not be run.
        """
        key = _key(thread_id, message_id, call_id)
        return bool(await self._db.do(BEGIN, arguments=json.dumps(arguments), **key))

    async def end(self, thread_id: str, message_id: str, call_id: str, result: Json) -> None:
        """Keep the result of a call, for other branches that approve it too.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        await self._db.do(END, result=json.dumps(result), **_key(thread_id, message_id, call_id))


def _key(thread_id: str, message_id: str, call_id: str) -> dict[str, str]:
    return {"thread": thread_id, "message": storable(message_id), "call": storable(call_id)}
