"""What the session index in SQLite knows of a request's messages, and of one turn; how a turn is entered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from sqlite3 import Connection, Row

from langchain_core.messages import AnyMessage

from server.messages.tool_results import results_at_end, unanswered_calls
from server.sessions.index import unknown_session
from server.sessions.naming import Session
from server.sessions.reconcile import Knowledge, KnownTurn
from server.sessions.transcript import Transcript

# The values of a JSON array: there may be more of them than a statement takes parameters.
LISTED = "SELECT value FROM json_each(?)"

TURN = "turns.turn AS turn, number, asked, digest, checkpoint_id, agent, waiting"
# One row, also for a thread that is no session.
KNOWN = f"""
SELECT principal, id, habit, bytes, {TURN}, (
    SELECT max(checkpoint_id) FROM checkpoints WHERE checkpoints.thread_id = asked_for.thread AND checkpoint_ns = ''
) AS latest
FROM (SELECT ? AS thread) AS asked_for
LEFT JOIN sessions ON sessions.thread_id = asked_for.thread LEFT JOIN turns ON turns.turn = newest
"""
# The first turn that follows another stays on its branch; any other begins one.
ENTER_TURN = """
INSERT INTO turns (thread_id, parent, branch, number, asked, digest, waiting, waits_for, checkpoint_id, agent) VALUES (
    :thread, :parent,
    CASE WHEN :parent IS NULL OR EXISTS (SELECT 1 FROM turns WHERE thread_id = :thread AND parent = :parent)
        THEN coalesce((SELECT branches FROM sessions WHERE thread_id = :thread), 0) + 1
        ELSE (SELECT branch FROM turns WHERE turn = :parent)
    END,
    :number, :asked, :digest, :waiting, :waits_for, :checkpoint, :agent
)
"""
ENTER_SESSION = """
INSERT INTO sessions (thread_id, principal, id, created_at, updated_at, habit, bytes, newest, branches)
SELECT ?, ?, ?, ?, ?, ?, ?, turn, branch FROM turns WHERE turn = ?
ON CONFLICT (thread_id) DO UPDATE SET
    updated_at = excluded.updated_at, habit = excluded.habit, newest = excluded.newest,
    branches = max(branches, excluded.branches), bytes = bytes + excluded.bytes
"""

# What there is of a session's thread, where others have changed it.
COUNT_BYTES = """
UPDATE sessions SET bytes =
    (SELECT coalesce(sum(length(checkpoint)), 0) FROM checkpoints WHERE checkpoints.thread_id = sessions.thread_id)
    + (SELECT coalesce(sum(length(value)), 0) FROM writes WHERE writes.thread_id = sessions.thread_id)
WHERE thread_id = ?
"""


def recall(db: Connection, session: Session, transcript: Transcript) -> tuple[Knowledge, str | None]:
    """Return what the session knows of a request's messages, and its thread's latest checkpoint, if it has one."""
    thread = session.thread_id
    row = one(db, KNOWN, thread)
    assert row is not None
    latest: str | None = row["latest"]
    if row["id"] is None:
        return Knowledge(), latest
    if (row["principal"], row["id"]) != (session.principal, session.id):
        raise unknown_session(session)
    known = Knowledge(
        newest=known_turn(row) if row["turn"] else None,
        turns=_longest_known(db, thread, transcript),
        paused=_paused(db, thread, transcript.messages),
        habit=row["habit"],
        stored=row["bytes"],
    )
    return known, latest


def _longest_known(db: Connection, thread: str, transcript: Transcript) -> Mapping[bytes, KnownTurn]:
    """Return the newest turn at the end of the longest beginning that is known; mostly the first look finds it."""
    for candidates in transcript.looks():
        places = ", ".join("?" * len(candidates))
        rows = _select(
            db,
            f"SELECT {TURN} FROM turns WHERE thread_id = ? AND digest IN ({places}) ORDER BY turn",
            thread,
            *candidates,
        )
        if rows:
            return {row["digest"]: known_turn(row) for row in rows}
    return {}


def _paused(db: Connection, thread: str, messages: Sequence[AnyMessage]) -> Mapping[str, KnownTurn]:
    calls = [*unanswered_calls(messages), *(result.tool_call_id for result in results_at_end(messages))]
    if not calls:
        return {}
    rows = _select(
        db,
        f"SELECT {TURN}, EXISTS (SELECT 1 FROM turns AS child WHERE child.thread_id = turns.thread_id AND "
        "child.parent = turns.turn) AS is_followed FROM turns "
        f"WHERE thread_id = ? AND waits_for IN ({LISTED}) ORDER BY turn",
        thread,
        json.dumps(calls),
    )
    turns = [replace(known_turn(row), is_followed=bool(row["is_followed"])) for row in rows]
    return {call: turn for turn in turns for call in turn.waiting}


def one(db: Connection, query: str, *values: object) -> Row | None:
    """Return the first row, or None."""
    rows = _select(db, query, *values)
    return rows[0] if rows else None


def _select(db: Connection, query: str, *values: object) -> list[Row]:
    return db.execute(query, values).fetchall()


def known_turn(row: Row) -> KnownTurn:
    """Return the turn of a row with the columns of TURN."""
    columns = {name: row[name] for name in ("number", "asked", "digest", "checkpoint_id", "agent")}
    return KnownTurn(id=row["turn"], waiting=tuple(json.loads(row["waiting"])), **columns)
