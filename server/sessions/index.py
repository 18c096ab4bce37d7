"""The session index: which sessions there are, and which turns they have, beside the checkpoints in one database.

A turn, its checkpoints and its session are stored in one transaction. So a process that is killed, or a run that fails,
leaves nothing of a turn that was not answered.

Each method is one read or one transaction; `reset` and `delete` may be several.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.base import BaseCheckpointSaver

from graph.state import MESSAGES
from graph.storage.database import storable
from graph.storage.run_saver import Loaded, Put
from graph.storage.saver import ThreadSaver
from graph.storage.summaries import enter_summaries
from server.messages.tool_results import results_at_end
from server.sessions.known_turns import ENTER_SESSION, ENTER_TURN, FORGET_LOST_TURNS, TURN, known_turn, recall
from server.sessions.leases import Leases
from server.sessions.migrations import migrate
from server.sessions.naming import Session
from server.sessions.reconcile import KnownTurn, Place, reconcile
from server.sessions.records import IDLE, RECORD, AnsweredTurn, Found, SessionRecord, session_record, unknown_session
from server.sessions.responses import TABLES, count_bytes, enter_response
from server.sessions.transcript import Transcript
from tools.tasks import to_the_end

# How long one transaction of a deletion goes on.
PIECE_SECONDS = 0.01


async def open_index(saver: ThreadSaver, leases: Leases) -> "SessionIndex":
    """Return the index beside a database's checkpoints, with its tables migrated to the current version.

    Raises:
        CheckpointUrlError: a newer version of chat-agent has changed them.
    """
    await saver.database.write(partial(migrate, saver.database))
    return SessionIndex(saver, leases)


class SessionIndex:
    """The sessions and turns of a database."""

    def __init__(self, saver: ThreadSaver, leases: Leases) -> None:
        self._saver, self._db, self._leases = saver, saver.database, leases
        self.is_clean = True
        """Whether the database's log is free of deleted data."""

    async def find(
        self, session: Session, transcript: Transcript, mode: Place, agent: str, saver: BaseCheckpointSaver[str]
    ) -> Found:
        """Reconcile a request's messages with what its session knows of them, and load the checkpoint there.

        It is loaded by the saver of the agent that is asked, if that one answered there: no graph can read another's.

        The cost does not depend on the session's number of turns. Turns whose checkpoints were deleted by others, such
        as Studio, are forgotten.

        Raises:
            UnpairedMessage: tool results without their calls, or calls without all of their results.
            NotFound: the thread is another principal's.
            InvalidRequest: the request follows a response that is not there any more.
            DatabaseMoved: the database file is no longer at its path.
        """
        assert isinstance(saver, ThreadSaver)
        look = partial(self._find, session, transcript, mode, agent, saver)
        found = await self._db.read(look)
        if found is None:
            await self._db.write(partial(self._forget_lost_turns, session))
            found = await self._db.read(look)
        assert found is not None
        return found

    def _find(
        self, session: Session, transcript: Transcript, mode: Place, agent: str, saver: ThreadSaver
    ) -> Found | None:
        """Return where a request goes on; None if the checkpoint there was deleted by others."""
        self._db.check_file()
        thread = session.thread_id
        known, latest = recall(self._db, session, transcript, mode)
        step = reconcile(known, transcript, mode)
        if step.after is None:
            return Found(known=known, step=step, start=Loaded(None, {}), is_latest=latest is None)
        after = step.after.checkpoint_id
        if step.after.agent != agent:
            there = "SELECT 1 FROM checkpoints WHERE thread_id = :thread AND checkpoint_id = :after"
            is_there = self._db.one(there, thread=thread, after=after)
            return Found(known=known, step=step, start=Loaded(None, {}), is_latest=False) if is_there else None
        start = saver.load(thread, after, [MESSAGES])
        return start.checkpoint and Found(known=known, step=step, start=start, is_latest=latest == after)

    async def store(self, session: Session, turn: AnsweredTurn, puts: Sequence[Put]) -> None:
        """Store a turn with what its run put, in one transaction; it becomes the newest of its session.

        Raises:
            Unavailable: another process holds the session; nothing is stored.
        """
        await self._db.write(partial(self._store, session, turn, puts))
        self._leases.ended(session)

    def _store(self, session: Session, turn: AnsweredTurn, puts: Sequence[Put]) -> None:
        stored = self._saver.store(puts)
        enter_summaries(self._db, session.thread_id, turn.summaries)
        if turn.response:
            enter_response(self._db, session, turn.response)
            stored += turn.response.size
        self._db.execute(ENTER_TURN, thread=session.thread_id, **turn.row())
        self._db.execute(
            ENTER_SESSION, **_key(session), digest=turn.digest, habit=turn.habit, bytes=stored, now=time.time()
        )
        self._leases.end(session)

    async def get(self, session: Session) -> SessionRecord | None:
        """Return a session's record, or None if there is no such session of the principal."""
        return await self._db.read(partial(self._get, session))

    def _get(self, session: Session) -> SessionRecord | None:
        records = self._records("sessions.thread_id = :thread AND principal = :principal AND id = :id", **_key(session))
        return records[0] if records else None

    async def waiting_for(self, principal: str, messages: Sequence[AnyMessage]) -> Session | None:
        """Return the principal's session that waits for the tool results at the end of the messages, if one does."""
        calls = [storable(result.tool_call_id) for result in results_at_end(messages)]
        if not calls:
            return None
        query = (
            "SELECT turn, id FROM turns JOIN sessions USING (thread_id) "
            "WHERE waits_for IN (:listed) AND principal = :principal"
        )
        waiting = await self._db.read(partial(self._db.select_among, query, calls, principal=principal))
        return Session(principal, max(waiting, key=lambda row: row["turn"])["id"]) if waiting else None

    async def count(self) -> int:
        """Return how many sessions there are."""
        [row] = await self._db.rows("SELECT count(*) AS count FROM sessions")
        return int(row["count"])

    async def stored_by(self, principal: str) -> int:
        """Return how many bytes the turns of a principal's sessions have stored."""
        query = "SELECT coalesce(sum(bytes), 0) AS bytes FROM sessions WHERE principal = :principal"
        [row] = await self._db.rows(query, principal=principal)
        return int(row["bytes"])

    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        """Return a principal's sessions, the one last used first; `after` is the last one of the page before.

        Raises:
            NotFound: there is no session `after`.
        """
        return await self._db.read(partial(self._page, principal, limit, after))

    def _page(self, principal: str, limit: int, after: Session | None) -> list[SessionRecord]:
        if after is None:
            return self._records("principal = :principal", limit, principal=principal)
        cursor = self._get(after)
        if cursor is None:
            raise unknown_session(after)
        return self._records(
            "principal = :principal AND (updated_at, sessions.thread_id) < (:used, :thread)",
            limit,
            principal=principal,
            used=cursor.updated_at,
            thread=after.thread_id,
        )

    async def end_of_branch(self, session: Session, branch: int | None) -> KnownTurn | None:
        """Return a branch's last turn, or the newest turn of all; None where there is none."""
        newest = "sessions JOIN turns ON turn = newest WHERE sessions.thread_id = :thread"
        last = "turns WHERE thread_id = :thread AND branch = :branch ORDER BY turn DESC LIMIT 1"
        query = f"SELECT {TURN} FROM {newest if branch is None else last}"
        row = await self._db.read(partial(self._db.one, query, thread=session.thread_id, branch=branch))
        return known_turn(row) if row else None

    async def reset(self, session: Session) -> None:
        """Forget all turns of a session and keep its id."""
        used = "UPDATE sessions SET updated_at = :now WHERE thread_id = :thread"
        await self._db.write(partial(self._db.execute, used, thread=session.thread_id, now=time.time()))
        await to_the_end(self._delete(session, [*self._saver.tables.names, *TABLES]))

    def _forget_lost_turns(self, session: Session) -> None:
        for statement in (*FORGET_LOST_TURNS, count_bytes(self._saver.tables)):
            self._db.execute(statement, thread=session.thread_id)

    async def delete(self, session: Session) -> None:
        """Delete all of a session; no copy stays in the database's files."""
        await to_the_end(self._delete(session, [*self._saver.tables.names, *TABLES, "sessions"]))

    async def _delete(self, session: Session, tables: Sequence[str]) -> None:
        """Delete a session's turns and its rows in the tables; other turns need not wait for all of it.

        If the process is killed in between, an empty session is left. The sweeper deletes it when it is old enough.
        """
        while not await self._db.write(partial(self._delete_some, session, tables)):
            pass
        await self.clean_up()

    def _delete_some(self, session: Session, tables: Sequence[str]) -> bool:
        """Delete for as long as a piece may take, and return whether that was all."""
        thread, until = session.thread_id, time.monotonic() + PIECE_SECONDS
        self._leases.check(session)
        self._db.execute("DELETE FROM turns WHERE thread_id = :thread", thread=thread)
        self._db.execute(
            "UPDATE sessions SET newest = NULL, habit = NULL, branches = 0, bytes = 0 WHERE thread_id = :thread",
            thread=thread,
        )
        return all(self._db.delete_rows(table, thread, until) for table in tables)

    async def clean_up(self) -> None:
        """Remove deleted data from the database's log too; while another process reads it, call this again later."""
        self.is_clean = await self._db.truncate_log()

    async def idle_since(self, one_turn: float, more_turns: float, *, limit: int) -> list[Session]:
        """Return sessions last used before these times: one for sessions of a single turn, one for those of more.

        For an empty session it is the later one.
        """
        times = {"latest": max(one_turn, more_turns), "one_turn": one_turn, "more_turns": more_turns}
        rows = await self._db.rows(IDLE, limit=limit, **times)
        return [Session(row["principal"], row["id"]) for row in rows]

    def _records(self, condition: str, limit: int = 1, **values: object) -> list[SessionRecord]:
        self._db.check_file()
        rows = self._db.select(
            f"SELECT {RECORD} FROM sessions LEFT JOIN turns ON turn = newest "
            f"WHERE {condition} ORDER BY updated_at DESC, sessions.thread_id DESC LIMIT :limit",
            limit=limit,
            **values,
        )
        return [session_record(row) for row in rows]


def _key(session: Session) -> dict[str, Any]:
    return {"thread": session.thread_id, "principal": session.principal, "id": session.id}
