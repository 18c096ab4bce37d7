"""The session index in SQLite, beside the checkpoints.

Each method is one read or one transaction; `reset` and `delete` are several.
"""

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from typing_extensions import override

from graph.state import MESSAGES
from graph.storage.run_saver import Loaded, Put
from graph.storage.sqlite import SqliteThreads
from server.messages.tool_results import results_at_end
from server.sessions.index import AnsweredTurn, Found, SessionIndex, SessionRecord, unknown_session
from server.sessions.naming import Session
from server.sessions.reconcile import KnownTurn, Mode, reconcile
from server.sessions.sqlite_turns import COUNT_BYTES, ENTER_SESSION, ENTER_TURN, LISTED, TURN, known_turn, one, recall
from server.sessions.transcript import Transcript
from tools.tasks import to_the_end

# How long one transaction of a deletion goes on, and how many rows it deletes between two looks at the clock.
PIECE_SECONDS = 0.01
ROWS_AT_ONCE = 10


class SqliteIndex(SessionIndex):
    """The sessions and turns in a SQLite database."""

    def __init__(self, saver: SqliteThreads) -> None:
        self._saver, self._database, self._db = saver, saver.database, saver.conn

    @override
    async def find(
        self, session: Session, transcript: Transcript, mode: Mode, agent: str, saver: BaseCheckpointSaver[str]
    ) -> Found:
        assert isinstance(saver, SqliteThreads)
        look = partial(self._find, session, transcript, mode, agent, saver)
        found = await self._database.read(look)
        if found is None:
            await self._database.write(partial(self._forget_lost_turns, session))
            found = await self._database.read(look)
        assert found is not None
        return found

    def _find(
        self, session: Session, transcript: Transcript, mode: Mode, agent: str, saver: SqliteThreads
    ) -> Found | None:
        """Return where a request goes on; None if the checkpoint there was deleted by others."""
        self._database.check_file()
        thread = session.thread_id
        known, latest = recall(self._db, session, transcript)
        step = reconcile(known, transcript, mode)
        if step.after is None:
            return Found(known=known, step=step, start=Loaded(None, {}), is_latest=latest is None)
        after = step.after.checkpoint_id
        if step.after.agent != agent:
            is_there = one(
                self._db, "SELECT 1 FROM checkpoints WHERE thread_id = ? AND checkpoint_id = ?", thread, after
            )
            return Found(known=known, step=step, start=Loaded(None, {}), is_latest=False) if is_there else None
        start = saver.load(thread, after, [MESSAGES])
        return start.checkpoint and Found(known=known, step=step, start=start, is_latest=latest == after)

    @override
    async def store(self, session: Session, turn: AnsweredTurn, puts: Sequence[Put]) -> None:
        await self._database.write(partial(self._store, session, turn, puts))

    def _store(self, session: Session, turn: AnsweredTurn, puts: Sequence[Put]) -> None:
        stored = self._saver.store(puts)
        after, thread, now = turn.step.after, session.thread_id, time.time()
        entered = self._db.execute(
            ENTER_TURN,
            {
                "thread": thread,
                "parent": after and after.id,
                "number": after.number + 1 if after else 1,
                "asked": turn.asked,
                "digest": turn.digest,
                "waiting": json.dumps(list(turn.waiting)),
                "waits_for": next(iter(turn.waiting), None),
                "checkpoint": turn.checkpoint_id,
                "agent": turn.agent,
            },
        )
        self._db.execute(ENTER_SESSION, (*_key(session), now, now, turn.habit, stored, entered.lastrowid))

    @override
    async def get(self, session: Session) -> SessionRecord | None:
        return await self._database.read(partial(self._get, session))

    def _get(self, session: Session) -> SessionRecord | None:
        records = self._records("sessions.thread_id = ? AND principal = ? AND id = ?", _key(session), 1)
        return records[0] if records else None

    @override
    async def waiting_for(self, principal: str, messages: Sequence[AnyMessage]) -> Session | None:
        calls = [result.tool_call_id for result in results_at_end(messages)]
        if not calls:
            return None
        look = partial(
            one,
            self._db,
            f"SELECT id FROM turns JOIN sessions USING (thread_id) WHERE waits_for IN ({LISTED}) "
            "AND principal = ? ORDER BY turn DESC LIMIT 1",
            json.dumps(calls),
            principal,
        )
        row = await self._database.read(look)
        return Session(principal, row["id"]) if row else None

    @override
    async def count(self) -> int:
        [row] = await self._database.read(partial(self._database.select, "SELECT count(*) AS count FROM sessions"))
        return int(row["count"])

    @override
    async def stored_by(self, principal: str) -> int:
        look = "SELECT coalesce(sum(bytes), 0) AS bytes FROM sessions WHERE principal = ?"
        [row] = await self._database.read(partial(self._database.select, look, principal))
        return int(row["bytes"])

    @override
    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        return await self._database.read(partial(self._page, principal, limit, after))

    def _page(self, principal: str, limit: int, after: Session | None) -> list[SessionRecord]:
        if after is None:
            return self._records("principal = ?", (principal,), limit)
        cursor = self._get(after)
        if cursor is None:
            raise unknown_session(after)
        return self._records(
            "principal = ? AND (updated_at, sessions.thread_id) < (?, ?)",
            (principal, cursor.updated_at, after.thread_id),
            limit,
        )

    @override
    async def end_of_branch(self, session: Session, branch: int | None) -> KnownTurn | None:
        if branch is None:
            query = f"SELECT {TURN} FROM sessions JOIN turns ON turn = newest WHERE sessions.thread_id = ?"
            look = partial(one, self._db, query, session.thread_id)
        else:
            query = f"SELECT {TURN} FROM turns WHERE thread_id = ? AND branch = ? ORDER BY turn DESC LIMIT 1"
            look = partial(one, self._db, query, session.thread_id, branch)
        row = await self._database.read(look)
        return known_turn(row) if row else None

    @override
    async def reset(self, session: Session) -> None:
        touch = partial(
            self._db.execute, "UPDATE sessions SET updated_at = ? WHERE thread_id = ?", (time.time(), session.thread_id)
        )
        await self._database.write(touch)
        await to_the_end(self._delete(session, "checkpoints", "writes"))

    def _forget_lost_turns(self, session: Session) -> None:
        thread = session.thread_id
        self._db.execute(
            "DELETE FROM turns WHERE thread_id = ? AND NOT EXISTS (SELECT 1 FROM checkpoints AS kept WHERE "
            "kept.thread_id = turns.thread_id AND checkpoint_ns = '' AND kept.checkpoint_id = turns.checkpoint_id)",
            (thread,),
        )
        newest = "(SELECT max(turn) FROM turns WHERE thread_id = ?)"
        self._db.execute(f"UPDATE sessions SET newest = {newest} WHERE thread_id = ?", (thread, thread))
        empty = "thread_id = ? AND newest IS NULL"
        self._db.execute(f"UPDATE sessions SET habit = NULL, branches = 0 WHERE {empty}", (thread,))
        self._db.execute(COUNT_BYTES, (thread,))

    @override
    async def delete(self, session: Session) -> None:
        await to_the_end(self._delete(session, "checkpoints", "writes", "sessions"))

    async def _delete(self, session: Session, *tables: str) -> None:
        """Delete a session's turns and its rows in the tables, in several transactions: other turns need not wait.

        If the process is killed in between, an empty session is left. The sweeper deletes it when it is old enough.
        """
        while not await self._database.write(partial(self._delete_some, session, *tables)):
            pass
        await self.clean_up()

    def _delete_some(self, session: Session, *tables: str) -> bool:
        """Delete for as long as a piece may take, the newest rows first, and return whether that was all."""
        thread, until = session.thread_id, time.monotonic() + PIECE_SECONDS
        self._db.execute("DELETE FROM turns WHERE thread_id = ?", (thread,))
        self._db.execute(
            "UPDATE sessions SET newest = NULL, habit = NULL, branches = 0, bytes = 0 WHERE thread_id = ?", (thread,)
        )
        for table in tables:
            some = f"SELECT rowid FROM {table} WHERE thread_id = ? ORDER BY rowid DESC LIMIT {ROWS_AT_ONCE}"
            while self._db.execute(f"DELETE FROM {table} WHERE rowid IN ({some})", (thread,)).rowcount:
                if time.monotonic() > until:
                    return False
        return True

    @override
    async def clean_up(self) -> None:
        self.is_clean = await self._database.truncate_log()

    @override
    async def idle_since(self, one_turn: float, more_turns: float, *, limit: int) -> list[Session]:
        look = partial(
            self._database.select,
            "SELECT principal, id FROM sessions LEFT JOIN turns ON turn = newest WHERE updated_at < ?1 AND "
            "updated_at < CASE WHEN newest IS NULL THEN ?1 WHEN number = 1 AND branches <= 1 THEN ? ELSE ? END "
            "ORDER BY updated_at LIMIT ?",
            max(one_turn, more_turns),
            one_turn,
            more_turns,
            limit,
        )
        return [Session(row["principal"], row["id"]) for row in await self._database.read(look)]

    def _records(self, condition: str, values: tuple[Any, ...], limit: int) -> list[SessionRecord]:
        self._database.check_file()
        rows = self._database.select(
            "SELECT principal, id, created_at, updated_at, branches, bytes, coalesce(number, 0) AS turns, "
            "waits_for IS NOT NULL AS waiting, coalesce(agent, '') AS agent FROM sessions LEFT JOIN turns ON "
            f"turn = newest WHERE {condition} ORDER BY updated_at DESC, sessions.thread_id DESC LIMIT ?",
            *values,
            limit,
        )
        return [
            SessionRecord(
                session=Session(row["principal"], row["id"]),
                waiting=bool(row["waiting"]),
                **{name: row[name] for name in ("created_at", "updated_at", "turns", "branches", "bytes", "agent")},
            )
            for row in rows
        ]


def _key(session: Session) -> tuple[str, str, str]:
    return session.thread_id, session.principal, session.id
