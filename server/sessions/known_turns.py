"""What the session index knows of a request's messages, and of one turn; how a turn is entered."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from langchain_core.messages import AnyMessage

from graph.storage.database import Database, Row, storable
from server.messages.tool_results import results_at_end, unanswered_calls
from server.sessions.approval import load_asked
from server.sessions.naming import Session
from server.sessions.reconcile import After, Knowledge, KnownTurn, Place
from server.sessions.records import unknown_parent, unknown_session
from server.sessions.transcript import Transcript

TURN = "turns.turn AS turn, number, asked, digest, checkpoint_id, agent, waiting, standing, awaits"
# One row, also for a thread that is no session.
KNOWN = f"""
SELECT principal, id, habit, bytes, {TURN}, (
    SELECT max(checkpoint_id) FROM checkpoints WHERE checkpoints.thread_id = asked_for.thread AND checkpoint_ns = ''
) AS latest
FROM (SELECT CAST(:thread AS TEXT) AS thread) AS asked_for
LEFT JOIN sessions ON sessions.thread_id = asked_for.thread LEFT JOIN turns ON turns.turn = newest
"""
# A turn that nobody was told of, as after an approval from beside, has the digest of the one before it.
PAUSED = f"""
SELECT {TURN}, EXISTS (
    SELECT 1 FROM turns AS child
    WHERE child.thread_id = turns.thread_id AND child.parent = turns.turn AND child.digest <> turns.digest
) AS is_followed
FROM turns WHERE thread_id = :thread AND waits_for IN (:listed)
"""
# The first turn that follows another stays on its branch; any other begins one.
ENTER_TURN = """
INSERT INTO turns (
    thread_id, parent, branch, number, asked, digest, waiting, waits_for, checkpoint_id, agent, response, standing,
    awaits
) VALUES (
    :thread, CAST(:parent AS BIGINT),
    CASE
        WHEN CAST(:parent AS BIGINT) IS NULL
            OR EXISTS (SELECT 1 FROM turns WHERE thread_id = :thread AND parent = CAST(:parent AS BIGINT))
        THEN coalesce((SELECT branches FROM sessions WHERE thread_id = :thread), 0) + 1
        ELSE (SELECT branch FROM turns WHERE turn = CAST(:parent AS BIGINT))
    END,
    :number, :asked, :digest, :waiting, :waits_for, :checkpoint, :agent, :response, :standing, :awaits
)
"""
# Right after the turn, which is the newest with this digest.
ENTER_SESSION = """
INSERT INTO sessions (thread_id, principal, id, created_at, updated_at, habit, bytes, newest, branches)
SELECT :thread, :principal, :id, :now, :now, :habit, :bytes, turn, branch FROM turns
WHERE thread_id = :thread AND digest = :digest ORDER BY turn DESC LIMIT 1
ON CONFLICT (thread_id) DO UPDATE SET
    updated_at = excluded.updated_at, habit = excluded.habit, newest = excluded.newest,
    branches = CASE WHEN excluded.branches > sessions.branches THEN excluded.branches ELSE sessions.branches END,
    bytes = sessions.bytes + excluded.bytes
"""
# Turns whose checkpoints were deleted by others.
FORGET_LOST_TURNS = (
    "DELETE FROM turns WHERE thread_id = :thread AND NOT EXISTS (SELECT 1 FROM checkpoints AS kept WHERE "
    "kept.thread_id = turns.thread_id AND checkpoint_ns = '' AND kept.checkpoint_id = turns.checkpoint_id)",
    "UPDATE sessions SET newest = (SELECT max(turn) FROM turns WHERE thread_id = :thread) WHERE thread_id = :thread",
    "UPDATE sessions SET habit = NULL, branches = 0 WHERE thread_id = :thread AND newest IS NULL",
)


def recall(db: Database, session: Session, transcript: Transcript, place: Place) -> tuple[Knowledge, str | None]:
    """Return what the session knows of a request's messages, and its thread's latest checkpoint, if it has one.

    Raises:
        NotFound: the thread is another principal's.
        InvalidRequest: the request follows a response that is not there any more.
    """
    thread = session.thread_id
    row = db.one(KNOWN, thread=thread)
    assert row is not None
    latest: str | None = row["latest"]
    if row["id"] is None:
        if isinstance(place, After) and place.response:  # it was there when the request came
            raise unknown_parent(place.response)
        if not isinstance(place, str):
            raise unknown_session(session)
        return Knowledge(), latest
    if (row["principal"], row["id"]) != (session.principal, session.id):
        raise unknown_session(session)
    newest = known_turn(row) if row["turn"] else None
    if isinstance(place, After) and place.response:
        newest = _turn_of(db, thread, place.response)
    known = Knowledge(
        newest=newest,
        turns={} if isinstance(place, After) else _longest_known(db, thread, transcript),
        paused=_paused(db, thread, transcript.messages),
        habit=row["habit"],
        stored=row["bytes"],
    )
    return known, latest


def _longest_known(db: Database, thread: str, transcript: Transcript) -> Mapping[bytes, KnownTurn]:
    """Return the newest turn at the end of the longest beginning that is known; mostly the first look finds it."""
    query = f"SELECT {TURN} FROM turns WHERE thread_id = :thread AND digest IN (:listed) ORDER BY turn"
    for candidates in transcript.looks():
        if rows := db.select_among(query, candidates, thread=thread):
            return _among_equals([known_turn(row) for row in rows], transcript)
    return {}


def _among_equals(turns: Sequence[KnownTurn], transcript: Transcript) -> Mapping[bytes, KnownTurn]:
    """Return one turn for each digest: the one that waits for the result which follows, or the newest."""
    following = {
        beginning.digest: getattr(message, "tool_call_id", None)
        for beginning in transcript.beginnings
        for message in transcript.messages[beginning.length : beginning.length + 1]
    }
    chosen: dict[bytes, KnownTurn] = {}
    for turn in turns:
        call, before = following.get(turn.digest), chosen.get(turn.digest)
        if before is None or call in turn.waiting or call not in before.waiting:
            chosen[turn.digest] = turn
    return chosen


def _paused(db: Database, thread: str, messages: Sequence[AnyMessage]) -> Mapping[str, KnownTurn]:
    calls = [*unanswered_calls(messages), *(result.tool_call_id for result in results_at_end(messages))]
    rows = sorted(db.select_among(PAUSED, [*map(storable, calls)], thread=thread), key=lambda row: int(row["turn"]))
    turns = [replace(known_turn(row), is_followed=bool(row["is_followed"])) for row in rows]
    return {call: turn for turn in turns for call in turn.waiting}


def _turn_of(db: Database, thread: str, response_id: str) -> KnownTurn:
    query = f"SELECT {TURN} FROM turns WHERE response = :response AND thread_id = :thread"
    row = db.one(query, response=response_id, thread=thread)
    if row is None:
        raise unknown_parent(response_id)
    return known_turn(row)


def known_turn(row: Row) -> KnownTurn:
    """Return the turn of a row with the columns of TURN."""
    columns = {name: row[name] for name in ("number", "asked", "digest", "checkpoint_id", "agent")}
    waiting, standing = (tuple(json.loads(row[name] or "[]")) for name in ("waiting", "standing"))
    awaits, context = load_asked(row["awaits"])
    return KnownTurn(id=row["turn"], waiting=waiting, standing=standing, awaits=awaits, context=context, **columns)
