"""The session index in SQLite, beside the checkpoints and on their connection."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from sqlite3 import Row
from typing import Any

from langchain_core.messages import AnyMessage
from typing_extensions import override

from graph.storage.sqlite import SqliteThreads
from server.messages.tool_results import results_at_end, unanswered_calls
from server.sessions.index import AnsweredTurn, SessionIndex, SessionRecord, unknown_session
from server.sessions.naming import Session
from server.sessions.reconcile import Knowledge, KnownTurn
from server.sessions.transcript import Transcript

# The values of a JSON array: there may be more of them than a statement takes parameters.
LISTED = "SELECT value FROM json_each(?)"

TURN = "turns.turn AS turn, number, asked, digest, checkpoint_id, agent, waiting"


class SqliteIndex(SessionIndex):
    """The sessions and turns in a SQLite database."""

    def __init__(self, saver: SqliteThreads) -> None:
        self._saver = saver

    @override
    async def recall(self, session: Session, transcript: Transcript) -> Knowledge:
        await self._saver.check_file()
        thread = session.thread_id
        row = await self._one(
            f"SELECT principal, id, habit, {TURN} FROM sessions LEFT JOIN turns ON turns.turn = newest "
            "WHERE sessions.thread_id = ?",
            thread,
        )
        if row is None:
            return Knowledge()
        if (row["principal"], row["id"]) != (session.principal, session.id):
            raise unknown_session(session)
        return Knowledge(
            newest=_known_turn(row) if row["turn"] else None,
            turns=await self._longest_known(thread, transcript),
            paused=await self._paused(thread, transcript.messages),
            habit=row["habit"],
        )

    @override
    async def begin(self, session: Session) -> bool:
        async with self._saver.transaction() as db:
            made = await db.execute(
                "INSERT INTO sessions (thread_id, principal, id, created_at, updated_at) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (thread_id) DO NOTHING",
                (*_key(session), now := time.time(), now),
            )
        return made.rowcount == 1

    @override
    async def withdraw(self, session: Session) -> None:
        async with self._saver.transaction() as db:
            await db.execute("DELETE FROM sessions WHERE thread_id = ? AND newest IS NULL", (session.thread_id,))

    @override
    async def enter(self, session: Session, turn: AnsweredTurn) -> None:
        thread, now = session.thread_id, time.time()
        after = turn.step.after
        parent, number = (after.id, after.number + 1) if after else (None, 1)
        calls = json.dumps(list(turn.waiting)), next(iter(turn.waiting), None)
        async with self._saver.transaction() as db:
            branch = await self._branch_of_child(thread, parent)
            entered = await db.execute(
                "INSERT INTO turns (thread_id, parent, branch, number, asked, digest, waiting, waits_for, "
                "checkpoint_id, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (thread, parent, branch, number, turn.asked, turn.digest, *calls, turn.checkpoint_id, turn.agent),
            )
            await db.execute(
                "UPDATE sessions SET newest = ?, habit = ?, updated_at = ?, branches = max(branches, ?) "
                "WHERE thread_id = ?",
                (entered.lastrowid, turn.habit, now, branch, thread),
            )

    @override
    async def get(self, session: Session) -> SessionRecord | None:
        rows = await self._records("sessions.thread_id = ? AND principal = ? AND id = ?", _key(session), 1)
        return rows[0] if rows else None

    @override
    async def waiting_for(self, principal: str, messages: Sequence[AnyMessage]) -> Session | None:
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

    @override
    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
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

    @override
    async def end_of_branch(self, session: Session, branch: int | None) -> KnownTurn | None:
        if branch is None:
            query = f"SELECT {TURN} FROM sessions JOIN turns ON turn = newest WHERE sessions.thread_id = ?"
            row = await self._one(query, session.thread_id)
        else:
            query = f"SELECT {TURN} FROM turns WHERE thread_id = ? AND branch = ? ORDER BY turn DESC LIMIT 1"
            row = await self._one(query, session.thread_id, branch)
        return _known_turn(row) if row else None

    @override
    async def reset(self, session: Session) -> None:
        async with self._saver.transaction() as db:
            for table in ("writes", "checkpoints", "turns"):
                await db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (session.thread_id,))
            await db.execute(
                "UPDATE sessions SET newest = NULL, habit = NULL, branches = 0, updated_at = ? WHERE thread_id = ?",
                (time.time(), session.thread_id),
            )
        await self.clean_up()

    @override
    async def forget_lost_turns(self, session: Session) -> None:
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

    @override
    async def delete(self, session: Session) -> None:
        async with self._saver.transaction() as db:
            for table in ("writes", "checkpoints", "turns", "sessions"):
                await db.execute(f"DELETE FROM {table} WHERE thread_id = ?", (session.thread_id,))
        await self.clean_up()

    @override
    async def clean_up(self) -> None:
        self.is_clean = await self._saver.truncate_log()

    @override
    async def idle_since(self, one_turn: float, more_turns: float, *, limit: int) -> list[Session]:
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
        for candidates in transcript.looks():
            places = ", ".join("?" * len(candidates))
            rows = await self._saver.select(
                f"SELECT {TURN} FROM turns WHERE thread_id = ? AND digest IN ({places}) ORDER BY turn",
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
            "waits_for IS NOT NULL AS waiting, coalesce(agent, '') AS agent FROM sessions LEFT JOIN turns ON "
            f"turn = newest WHERE {condition} ORDER BY updated_at DESC, sessions.thread_id DESC LIMIT ?",
            *values,
            limit,
        )
        return [
            SessionRecord(
                session=Session(row["principal"], row["id"]),
                waiting=bool(row["waiting"]),
                **{name: row[name] for name in ("created_at", "updated_at", "turns", "branches", "agent")},
            )
            for row in rows
        ]

    async def _one(self, query: str, *values: object) -> Row | None:
        rows = await self._saver.select(query, *values)
        return rows[0] if rows else None


def _key(session: Session) -> tuple[str, str, str]:
    return session.thread_id, session.principal, session.id


def _known_turn(row: Row) -> KnownTurn:
    columns = {name: row[name] for name in ("number", "asked", "digest", "checkpoint_id", "agent")}
    return KnownTurn(id=row["turn"], waiting=tuple(json.loads(row["waiting"])), **columns)
