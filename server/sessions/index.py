"""The session index: which sessions there are, and which turns they have, beside the checkpoints in one database.

A turn is entered here when its checkpoint is committed, and only what is entered here is part of a session. So a
process that is killed between the two, or a run that fails, leaves a checkpoint that no later turn builds on.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from sqlite3 import Row
from typing import Any

from langchain_core.messages import AnyMessage

from graph.storage.sqlite import ShieldedSqliteSaver
from server.errors import NotFound
from server.messages.tool_results import results_at_end, unanswered_calls
from server.sessions.naming import Session
from server.sessions.reconcile import Habit, Knowledge, KnownTurn, NewRoot, Step
from server.sessions.transcript import Transcript

# How many beginnings are looked up at first, the longest ones; each next look takes eight times as many, up to a bound.
FIRST_LOOK, MAX_LOOK = 4, 4096

# The values of a JSON array: there may be more of them than a statement takes parameters.
LISTED = "SELECT value FROM json_each(?)"

TURN = "turns.turn AS turn, number, asked, digest, checkpoint_id, waiting"


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A session as its owner may see it; times are Unix times in seconds, `turns` those of the newest branch."""

    session: Session
    created_at: float
    updated_at: float
    turns: int
    branches: int
    waiting: bool

    @property
    def is_single(self) -> bool:
        """Whether nothing was said in it but one question and its answer."""
        return self.turns <= 1 and self.branches <= 1


@dataclass(frozen=True, kw_only=True)
class AnsweredTurn:
    """What is entered when a turn was answered."""

    step: Step
    asked: bytes
    digest: bytes
    waiting: Sequence[str]
    checkpoint_id: str
    habit: Habit | None


class SessionIndex:
    """The sessions and turns of a database."""

    def __init__(self, saver: ShieldedSqliteSaver) -> None:
        self._saver = saver
        self.is_clean = True
        """Whether nothing that was deleted is left in the database's log."""

    async def recall(self, session: Session, transcript: Transcript) -> Knowledge:
        """Return what the session knows of a request's messages; it costs the same for few turns and for many.

        Raises:
            NotFound: the thread is another principal's.
            DatabaseMoved: what it would be told is not in the database file.
        """
        await self._saver.check_file()
        thread = session.thread_id
        row = await self._one(
            f"SELECT principal, id, habit, {TURN} FROM sessions LEFT JOIN turns ON turns.turn = newest "
            "WHERE sessions.thread_id = ?",
            thread,
        )
        if row is None:
            return Knowledge()
        _check_owner(row, session)
        return Knowledge(
            newest=_known_turn(row) if row["turn"] else None,
            turns=await self._longest_known(thread, transcript),
            paused=await self._paused(thread, transcript.messages),
            habit=row["habit"],
        )

    async def begin(self, session: Session) -> bool:
        """Make a session, unless it is there, and say whether it was not.

        What its first run writes must not be without an owner.
        """
        now = time.time()
        async with self._saver.transaction() as db:
            made = await db.execute(
                "INSERT INTO sessions (thread_id, principal, id, created_at, updated_at) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (thread_id) DO NOTHING",
                (*_key(session), now, now),
            )
        return made.rowcount == 1

    async def withdraw(self, session: Session) -> None:
        """Take back the beginning of a session in which no turn was answered."""
        async with self._saver.transaction() as db:
            await db.execute("DELETE FROM sessions WHERE thread_id = ? AND newest IS NULL", (session.thread_id,))

    async def enter(self, session: Session, turn: AnsweredTurn) -> None:
        """Enter a turn whose checkpoint is committed; it becomes the session's newest."""
        thread, now = session.thread_id, time.time()
        parent = None if isinstance(turn.step, NewRoot) else turn.step.turn
        async with self._saver.transaction() as db:
            branch = await self._branch_of_child(thread, parent.id if parent else None)
            entered = await db.execute(
                "INSERT INTO turns (thread_id, parent, branch, number, asked, digest, waiting, waits_for, "
                "checkpoint_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    thread,
                    parent.id if parent else None,
                    branch,
                    parent.number + 1 if parent else 1,
                    turn.asked,
                    turn.digest,
                    json.dumps(list(turn.waiting)),
                    next(iter(turn.waiting), None),
                    turn.checkpoint_id,
                ),
            )
            await db.execute(
                "UPDATE sessions SET newest = ?, habit = ?, updated_at = ?, branches = max(branches, ?) "
                "WHERE thread_id = ?",
                (entered.lastrowid, turn.habit, now, branch, thread),
            )

    async def get(self, session: Session) -> SessionRecord | None:
        """Return what is known of a session, or None where there is none that the principal may see."""
        rows = await self._records("sessions.thread_id = ? AND principal = ? AND id = ?", _key(session), 1)
        return rows[0] if rows else None

    async def waiting_for(self, principal: str, messages: Sequence[AnyMessage]) -> Session | None:
        """Return the principal's session that waits for the tool results at the end of the messages, if one does."""
        calls = [result.tool_call_id for result in results_at_end(messages)]
        if not calls:
            return None
        row = await self._one(
            f"SELECT id FROM turns JOIN sessions USING (thread_id) WHERE waits_for IN ({LISTED}) "
            "AND principal = ? ORDER BY turn DESC LIMIT 1",
            json.dumps(calls),
            principal,
        )
        return Session(principal, row["id"]) if row else None

    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        """Return a principal's sessions, the one last used first; `after` is the last one of the page before.

        Raises:
            NotFound: there is no session `after`.
        """
        if after is None:
            return await self._records("principal = ?", (principal,), limit)
        cursor = await self.get(after)
        if cursor is None:
            raise unknown_session(after)
        return await self._records(
            "principal = ? AND (updated_at, sessions.thread_id) < (?, ?)",
            (principal, cursor.updated_at, after.thread_id),
            limit,
        )

    async def end_of_branch(self, session: Session, branch: int | None) -> str | None:
        """Return the checkpoint of a branch's last turn, or of the newest turn; None where there is none."""
        if branch is None:
            query = "SELECT checkpoint_id FROM sessions JOIN turns ON turn = newest WHERE sessions.thread_id = ?"
            row = await self._one(query, session.thread_id)
        else:
            query = "SELECT checkpoint_id FROM turns WHERE thread_id = ? AND branch = ? ORDER BY turn DESC LIMIT 1"
            row = await self._one(query, session.thread_id, branch)
        return row["checkpoint_id"] if row else None

    async def reset(self, session: Session) -> None:
        """Forget all turns of a session and keep its id."""
        async with self._saver.transaction() as db:
            for table in ("writes", "checkpoints", "turns"):
                await db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (session.thread_id,))
            await db.execute(
                "UPDATE sessions SET newest = NULL, habit = NULL, branches = 0, updated_at = ? WHERE thread_id = ?",
                (time.time(), session.thread_id),
            )
        await self.clean_up()

    async def forget_lost_turns(self, session: Session) -> None:
        """Forget the turns whose checkpoints were deleted behind the index, as Studio can; others stay."""
        thread = session.thread_id
        async with self._saver.transaction() as db:
            await db.execute(
                "DELETE FROM turns WHERE thread_id = ? AND NOT EXISTS (SELECT 1 FROM checkpoints AS kept WHERE "
                "kept.thread_id = turns.thread_id AND checkpoint_ns = '' AND kept.checkpoint_id = turns.checkpoint_id)",
                (thread,),
            )
            await db.execute(
                "UPDATE sessions SET newest = (SELECT max(turn) FROM turns WHERE thread_id = ?) WHERE thread_id = ?",
                (thread, thread),
            )
            await db.execute(
                "UPDATE sessions SET habit = NULL, branches = 0 WHERE thread_id = ? AND newest IS NULL", (thread,)
            )

    async def delete(self, session: Session) -> None:
        """Delete all that there is of a session; no copy of it stays in the database's files."""
        async with self._saver.transaction() as db:
            for table in ("writes", "checkpoints", "turns", "sessions"):
                await db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (session.thread_id,))
        await self.clean_up()

    async def clean_up(self) -> None:
        """Take what was deleted out of the database's log too, now or, where somebody reads it, when called again."""
        self.is_clean = await self._saver.truncate_log()

    async def idle_since(self, one_turn: float, more_turns: float, *, limit: int) -> list[Session]:
        """Return sessions last used before a time, which is another one for sessions of a single turn."""
        rows = await self._saver.select(
            "SELECT principal, id FROM sessions LEFT JOIN turns ON turn = newest WHERE updated_at < ? AND updated_at < "
            "CASE WHEN coalesce(number, 1) = 1 AND branches <= 1 THEN ? ELSE ? END ORDER BY updated_at LIMIT ?",
            max(one_turn, more_turns),
            one_turn,
            more_turns,
            limit,
        )
        return [Session(row["principal"], row["id"]) for row in rows]

    async def _longest_known(self, thread: str, transcript: Transcript) -> Mapping[bytes, KnownTurn]:
        """Return the newest turn at the end of the longest beginning that is known; mostly the first look finds it."""
        digests = [beginning.digest for beginning in transcript.beginnings]
        for candidates in _looks(digests[::-1]):
            rows = await self._saver.select(
                f"SELECT {TURN} FROM turns WHERE thread_id = ? AND digest IN ({_places(candidates)}) ORDER BY turn",
                thread,
                *candidates,
            )
            if rows:
                return {row["digest"]: _known_turn(row) for row in rows}
        return {}

    async def _paused(self, thread: str, messages: Sequence[AnyMessage]) -> Mapping[str, KnownTurn]:
        calls = [*unanswered_calls(messages), *(result.tool_call_id for result in results_at_end(messages))]
        if not calls:
            return {}
        rows = await self._saver.select(
            f"SELECT {TURN}, EXISTS (SELECT 1 FROM turns AS child WHERE child.thread_id = turns.thread_id AND "
            "child.parent = turns.turn) AS is_followed FROM turns "
            f"WHERE thread_id = ? AND waits_for IN ({LISTED}) ORDER BY turn",
            thread,
            json.dumps(calls),
        )
        turns = [replace(_known_turn(row), is_followed=bool(row["is_followed"])) for row in rows]
        return {call: turn for turn in turns for call in turn.waiting}

    async def _branch_of_child(self, thread: str, parent: int | None) -> int:
        """Return the branch of a new turn: the first child of a turn stays on its branch, any other begins one."""
        row = await self._one(
            "SELECT branches, (SELECT branch FROM turns WHERE turn = ?) AS branch, "
            "EXISTS (SELECT 1 FROM turns WHERE thread_id = ? AND parent IS ?) AS has_siblings "
            "FROM sessions WHERE thread_id = ?",
            parent,
            thread,
            parent,
            thread,
        )
        assert row is not None
        branch: int = row["branches"] + 1 if row["has_siblings"] or parent is None else row["branch"]
        return branch

    async def _records(self, condition: str, values: tuple[Any, ...], limit: int) -> list[SessionRecord]:
        await self._saver.check_file()
        rows = await self._saver.select(
            "SELECT principal, id, created_at, updated_at, branches, coalesce(number, 0) AS turns, "
            "waits_for IS NOT NULL AS waiting FROM sessions LEFT JOIN turns ON turn = newest "
            f"WHERE {condition} ORDER BY updated_at DESC, sessions.thread_id DESC LIMIT ?",
            *values,
            limit,
        )
        return [
            SessionRecord(
                session=Session(row["principal"], row["id"]),
                created_at=row["created_at"],
                updated_at=row["updated_at"],
                turns=row["turns"],
                branches=row["branches"],
                waiting=bool(row["waiting"]),
            )
            for row in rows
        ]

    async def _one(self, query: str, *values: object) -> Row | None:
        rows = await self._saver.select(query, *values)
        return rows[0] if rows else None


def unknown_session(session: Session) -> NotFound:
    """Return the error for a session that does not exist, or is another principal's."""
    return NotFound(f"There is no session {session.id!r}.", code="session_not_found")


def _check_owner(row: Row, session: Session) -> None:
    if (row["principal"], row["id"]) != _key(session)[1:]:
        raise unknown_session(session)


def _key(session: Session) -> tuple[str, str, str]:
    return session.thread_id, session.principal, session.id


def _known_turn(row: Row) -> KnownTurn:
    return KnownTurn(
        id=row["turn"],
        number=row["number"],
        asked=row["asked"],
        digest=row["digest"],
        checkpoint_id=row["checkpoint_id"],
        waiting=tuple(json.loads(row["waiting"])),
    )


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _looks(digests: Sequence[bytes]) -> Iterator[list[bytes]]:
    remaining, size = iter(digests), FIRST_LOOK
    while candidates := list(islice(remaining, size)):
        yield candidates
        size = min(8 * size, MAX_LOOK)
