"""Responses of the Responses API: each is stored with the turn that it is of, and goes with its session."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from graph.storage.database import Database, DatabaseUnavailable, Row
from graph.storage.saver import ThreadSaver
from graph.storage.thread_rows import ThreadTables
from server.errors import Unavailable
from server.sessions.conversations import enter_session
from server.sessions.known_turns import TURN, known_turn
from server.sessions.naming import Session
from server.sessions.reconcile import KnownTurn
from server.sessions.records import AnsweredResponse
from tools.tasks import to_the_end

log = logging.getLogger(__name__)

Json = dict[str, Any]

ENTER = """
INSERT INTO responses (id, principal, thread_id, session, status, created_at, input, resource)
VALUES (:id, :principal, :thread, :session, :status, :created_at, :input, :resource)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, input = excluded.input, resource = excluded.resource
"""
# What belongs to a session, and is deleted with it.
TABLES = ("responses", "response_events")
# A turn and all before it on its branch.
CHAIN_OF_TURNS = """
WITH RECURSIVE chain (turn, parent) AS (
    SELECT turn, parent FROM turns WHERE thread_id = :thread AND turn = :turn
    UNION ALL SELECT turns.turn, turns.parent FROM turns JOIN chain ON turns.turn = chain.parent
)
"""
# The first one first.
CHAIN = f"""
{CHAIN_OF_TURNS}
SELECT {TURN}, responses.input, responses.resource
FROM chain JOIN turns ON turns.turn = chain.turn LEFT JOIN responses ON responses.id = turns.response
ORDER BY number
"""
NEWEST = f"SELECT {TURN} FROM sessions JOIN turns ON turns.turn = newest WHERE sessions.thread_id = :thread"


@dataclass(frozen=True)
class StoredResponse:
    """A stored response, the session that it is of, and the turn; None where that is not there any more."""

    session: Session
    turn: KnownTurn | None
    answered: AnsweredResponse
    is_streamed: bool
    """Whether the events of its stream can be had."""
    is_open: bool
    """Whether it is made in the background, and its end has not been told."""

    @property
    def resource(self) -> Json:
        """The response, as its client got it."""
        resource: Json = json.loads(self.answered.resource)
        return resource

    @property
    def input(self) -> list[Json]:
        """The items that its request added."""
        added: list[Json] = json.loads(self.answered.input)
        return added

    @property
    def items(self) -> Sequence[Json]:
        """The items of its input and its output."""
        return [*self.input, *self.resource["output"]]


@dataclass(frozen=True)
class Link:
    """A turn of a chain, with the items of its response; None for a turn that was answered in another protocol."""

    turn: KnownTurn
    items: Sequence[Json] | None


class Responses:
    """The stored responses of a database; each method is one read or one transaction."""

    def __init__(self, saver: ThreadSaver) -> None:
        self._saver, self._db = saver, saver.database

    async def among(self, principal: str, ids: Sequence[str]) -> Mapping[str, StoredResponse]:
        """Return what is stored of a principal under these ids, by the id."""
        query = (
            f"SELECT responses.*, {TURN} FROM responses LEFT JOIN turns ON turns.response = responses.id "
            "WHERE responses.id IN (:listed) AND principal = :principal"
        )
        rows = await self._db.read(partial(self._db.select_among, query, ids, principal=principal))
        return {row["id"]: _stored(row) for row in rows}

    async def sessions(self, principal: str, ids: Sequence[str]) -> Mapping[str, Session]:
        """Return the sessions of those of these responses that are the principal's."""
        query = "SELECT id, session FROM responses WHERE id IN (:listed) AND principal = :principal"
        rows = await self._db.read(partial(self._db.select_among, query, ids, principal=principal))
        return {row["id"]: Session(principal, row["session"]) for row in rows}

    async def newest(self, session: Session) -> KnownTurn | None:
        """Return the newest turn of a session."""
        row = await self._db.read(partial(self._db.one, NEWEST, thread=session.thread_id))
        return known_turn(row) if row else None

    async def chain(self, session: Session, turn: KnownTurn) -> Sequence[Link]:
        """Return the turns up to and with this one, the first one first."""
        rows = await self._db.rows(CHAIN, thread=session.thread_id, turn=turn.id)
        return [Link(known_turn(row), _items(row)) for row in rows]

    async def ids_of_chain(self, session: Session, turn: KnownTurn) -> Collection[str]:
        """Return the ids of the responses of the turns up to and with this one."""
        query = f"{CHAIN_OF_TURNS} SELECT response FROM chain JOIN turns ON turns.turn = chain.turn"
        return {row["response"] for row in await self._db.rows(query, thread=session.thread_id, turn=turn.id)}

    async def keep_failed(self, session: Session, response: AnsweredResponse) -> None:
        """Store a response that failed after its id was told, unless its turn was stored."""
        try:
            await to_the_end(self._db.write(partial(self._keep_failed, session, response)))
        except DatabaseUnavailable as error:
            log.warning("A response that failed could not be stored. %s", error)

    def _keep_failed(self, session: Session, response: AnsweredResponse) -> None:
        if self._db.one("SELECT 1 FROM responses WHERE id = :id", id=response.id) is None:
            enter_session(self._db, session)
            enter_response(self._db, session, response)
            self._db.execute(count_bytes(self._saver.tables), thread=session.thread_id)

    async def delete(self, stored: StoredResponse) -> None:
        """Delete a response; its turn stays in its session."""
        await to_the_end(self._db.write(partial(self._delete, stored)))

    def _delete(self, stored: StoredResponse) -> None:
        response = stored.answered
        self._db.execute("UPDATE turns SET response = NULL WHERE response = :id", id=response.id)
        self._db.execute("DELETE FROM responses WHERE id = :id", id=response.id)
        delete_events(self._db, stored.session, response.id)
        self._db.execute(count_bytes(self._saver.tables), thread=stored.session.thread_id)


def delete_events(db: Database, session: Session, response_id: str) -> None:
    """Delete what the stream of a response has told."""
    db.execute(
        "DELETE FROM response_events WHERE thread_id = :thread AND response = :id",
        thread=session.thread_id,
        id=response_id,
    )


def count_bytes(tables: ThreadTables) -> str:
    """Return the statement that counts anew what a session has stored."""
    of_responses = "SELECT coalesce(sum(length(input) + length(resource)), 0) FROM responses"
    return (
        f"UPDATE sessions SET bytes = {tables.bytes_of_session} "
        f"+ ({of_responses} WHERE responses.thread_id = sessions.thread_id) WHERE thread_id = :thread"
    )


def enter_response(db: Database, session: Session, response: AnsweredResponse) -> None:
    """Enter a response into the database: when it begins in the background, or with its turn.

    Raises:
        Unavailable: it was made in the background, and another process has told that it failed.
    """
    if db.one("SELECT 1 FROM responses WHERE id = :id AND ended_at IS NOT NULL", id=response.id):
        raise Unavailable("The response was given up, since its process had not been seen for long.")
    db.execute(
        ENTER,
        id=response.id,
        principal=session.principal,
        thread=session.thread_id,
        session=session.id,
        status=response.status,
        created_at=response.created_at,
        input=response.input,
        resource=response.resource,
    )


def _stored(row: Row) -> StoredResponse:
    columns = {name: row[name] for name in ("status", "created_at")}
    answered = AnsweredResponse(
        id=row["id"],
        input=bytes(row["input"]),
        resource=bytes(row["resource"]),
        **columns,
    )
    turn = known_turn(row) if row["turn"] is not None else None
    is_open = row["beat"] is not None and row["ended_at"] is None
    return StoredResponse(
        Session(row["principal"], row["session"]),
        turn,
        answered,
        is_streamed=bool(row["is_streamed"]),
        is_open=is_open,
    )


def _items(row: Row) -> Sequence[Json] | None:
    if row["resource"] is None:
        return None
    return [*json.loads(row["input"]), *json.loads(row["resource"])["output"]]
