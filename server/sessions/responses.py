"""Responses of the Responses API: each is stored with the turn that it is of, and goes with its session."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from graph.storage.database import Database, Row
from graph.storage.thread_rows import ThreadTables
from server.sessions.known_turns import TURN, known_turn
from server.sessions.naming import Session
from server.sessions.reconcile import KnownTurn
from server.sessions.records import ADDED, AnsweredResponse
from tools.tasks import to_the_end

Json = dict[str, Any]

ENTER = """
INSERT INTO responses (id, principal, thread_id, session, status, created_at, standing, input, resource)
VALUES (:id, :principal, :thread, :session, :status, :created_at, :standing, :input, :resource)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, standing = excluded.standing, input = excluded.input,
    resource = excluded.resource
"""
# What belongs to a session, and is deleted with it.
TABLES = ("responses", "response_events")
# A turn and all before it on its branch, the first one first.
CHAIN = f"""
WITH RECURSIVE chain (turn, parent) AS (
    SELECT turn, parent FROM turns WHERE thread_id = :thread AND turn = :turn
    UNION ALL SELECT turns.turn, turns.parent FROM turns JOIN chain ON turns.turn = chain.parent
)
SELECT {TURN}, responses.input, responses.resource
FROM chain JOIN turns ON turns.turn = chain.turn LEFT JOIN responses ON responses.id = turns.response
ORDER BY number
"""
OF_SESSION = f"""
SELECT {TURN}, standing FROM sessions JOIN turns ON turns.turn = newest LEFT JOIN responses ON responses.id = response
WHERE sessions.thread_id = :thread
"""


@dataclass(frozen=True)
class StoredResponse:
    """A stored response, the session that it is of, and the turn; None where that is not there any more."""

    session: Session
    turn: KnownTurn | None
    answered: AnsweredResponse
    is_streamed: bool
    """Whether the events of its stream can be had."""

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

    def __init__(self, database: Database) -> None:
        self._db = database

    async def among(self, principal: str, ids: Sequence[str]) -> Mapping[str, StoredResponse]:
        """Return what is stored of a principal under these ids, by the id."""
        query = (
            f"SELECT responses.*, {TURN} FROM responses LEFT JOIN turns ON turns.response = responses.id "
            "WHERE responses.id IN (:listed) AND principal = :principal"
        )
        rows = await self._db.read(partial(self._db.select_among, query, ids, principal=principal))
        return {row["id"]: _stored(row) for row in rows}

    async def get(self, principal: str, response_id: str) -> StoredResponse | None:
        """Return a principal's response, or None if there is no such one; what was added without an answer is none."""
        found = (await self.among(principal, [response_id])).get(response_id)
        return found if found and found.answered.status != ADDED else None

    async def newest(self, session: Session) -> tuple[KnownTurn | None, Sequence[str]]:
        """Return the newest turn of a session, and what system messages of its chain have said."""
        row = await self._db.read(partial(self._db.one, OF_SESSION, thread=session.thread_id))
        return (known_turn(row), json.loads(row["standing"] or "[]")) if row else (None, ())

    async def chain(self, session: Session, turn: KnownTurn) -> Sequence[Link]:
        """Return the turns up to and with this one, the first one first."""
        rows = await self._db.rows(CHAIN, thread=session.thread_id, turn=turn.id)
        return [Link(known_turn(row), _items(row)) for row in rows]

    async def delete(self, stored: StoredResponse) -> None:
        """Delete a response; its turn stays in its session."""
        await to_the_end(self._db.write(partial(self._delete, stored)))

    def _delete(self, stored: StoredResponse) -> None:
        response = stored.answered
        self._db.execute("UPDATE turns SET response = NULL WHERE response = :id", id=response.id)
        self._db.execute("DELETE FROM responses WHERE id = :id", id=response.id)
        self._db.execute(
            "DELETE FROM response_events WHERE thread_id = :thread AND response = :id",
            thread=stored.session.thread_id,
            id=response.id,
        )
        self._db.execute(
            "UPDATE sessions SET bytes = bytes - CAST(:size AS BIGINT) WHERE thread_id = :thread",
            size=response.size,
            thread=stored.session.thread_id,
        )


def count_bytes(tables: ThreadTables) -> str:
    """Return the statement that counts anew what a session has stored."""
    of_responses = "SELECT coalesce(sum(length(input) + length(resource)), 0) FROM responses"
    return (
        f"UPDATE sessions SET bytes = {tables.bytes_of_session} "
        f"+ ({of_responses} WHERE responses.thread_id = sessions.thread_id) WHERE thread_id = :thread"
    )


def enter_response(db: Database, session: Session, response: AnsweredResponse) -> None:
    """Enter a response into the database: when it begins in the background, or with its turn."""
    db.execute(
        ENTER,
        id=response.id,
        principal=session.principal,
        thread=session.thread_id,
        session=session.id,
        status=response.status,
        created_at=response.created_at,
        standing=json.dumps(list(response.standing)),
        input=response.input,
        resource=response.resource,
    )


def _stored(row: Row) -> StoredResponse:
    columns = {name: row[name] for name in ("status", "created_at")}
    answered = AnsweredResponse(
        id=row["id"],
        standing=json.loads(row["standing"]),
        input=bytes(row["input"]),
        resource=bytes(row["resource"]),
        **columns,
    )
    turn = known_turn(row) if row["turn"] is not None else None
    return StoredResponse(Session(row["principal"], row["session"]), turn, answered, bool(row["is_streamed"]))


def _items(row: Row) -> Sequence[Json] | None:
    if row["resource"] is None:
        return None
    return [*json.loads(row["input"]), *json.loads(row["resource"])["output"]]
