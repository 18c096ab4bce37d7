"""Copy sessions from one database to another, with all their branches, and check that the copy is the same.

A session is copied in one transaction, so a transfer that was cut off goes on where it was.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import ormsgpack
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from typing_extensions import override

from graph.storage.database import Database, Row
from graph.storage.saver import ThreadSaver
from graph.storage.thread_rows import OWN
from server.sessions.responses import count_bytes

# Sessions whose names are read at once.
AT_ONCE = 500
SESSION = "thread_id, principal, id, habit, created_at, updated_at, branches, metadata"
TURN = (
    "thread_id, parent, branch, number, asked, digest, waiting, waits_for, checkpoint_id, agent, response, standing, "
    "awaits"
)
RESPONSE = "id, principal, thread_id, session, status, created_at, input, resource"
WRITE = "thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type"

ENTER_SESSION = f"""
INSERT INTO sessions ({SESSION}, newest)
VALUES (:thread_id, :principal, :id, :habit, :created_at, :updated_at, :branches, :metadata, CAST(:newest AS BIGINT))
"""
ENTER_TURN = f"""
INSERT INTO turns ({TURN}) VALUES (
    :thread_id, CAST(:parent AS BIGINT), :branch, :number, :asked, :digest, :waiting, :waits_for, :checkpoint_id,
    :agent, :response, :standing, :awaits
)
"""
ENTER_RESPONSE = f"INSERT INTO responses ({RESPONSE}) VALUES (:{RESPONSE.replace(', ', ', :')})"
ENTERED = "SELECT turn FROM turns WHERE thread_id = :thread_id AND digest = :digest ORDER BY turn DESC LIMIT 1"
ENTER_WRITE = f"""
INSERT INTO {{table}} ({WRITE}, {{value}}) VALUES (
    :thread_id, :checkpoint_ns, :checkpoint_id, :task_id, :task_path, :idx, :channel, :type, :value
)
"""


class SealedSerializer(JsonPlusSerializer):
    """LangGraph's serializer, which leaves objects as the bytes that they are stored as: their types are not needed."""

    @override
    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, packed = data
        if kind != "msgpack":
            return super().loads_typed(data)
        return ormsgpack.unpackb(packed, ext_hook=ormsgpack.Ext, option=ormsgpack.OPT_NON_STR_KEYS)


@dataclass(frozen=True)
class StoredSession:
    """All that a database has of a session. Turns name the one before them by their place in the list."""

    session: Mapping[str, Any]
    turns: Sequence[Mapping[str, Any]]
    responses: Sequence[Mapping[str, Any]]
    checkpoints: Sequence[CheckpointTuple]
    writes: Sequence[Mapping[str, Any]]
    beside: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The rows of our own tables, by the tables' names."""

    def digest(self) -> bytes:
        """Return a digest that is the same in every kind of database."""
        digest, serde = sha256(), SealedSerializer()
        checkpoints = [_plain(serde, found) for found in self.checkpoints]
        for part in (self.session, *self.turns, *self.responses, *self.writes, self.beside, *checkpoints):
            digest.update(json.dumps(part, sort_keys=True, default=bytes.hex).encode())
        return digest.digest()


def _plain(serde: SealedSerializer, found: CheckpointTuple) -> Mapping[str, Any]:
    """Return a checkpoint as JSON, with its values as bytes."""
    values = {name: serde.dumps_typed(value) for name, value in found.checkpoint["channel_values"].items()}
    return {
        "checkpoint": {**found.checkpoint, "channel_values": values},
        "metadata": found.metadata,
        "namespace": found.config["configurable"]["checkpoint_ns"],
        "parent": found.parent_config and found.parent_config["configurable"]["checkpoint_id"],
    }


class Differs(Exception):
    """The target has a session with this name and other content, or the copy would not be the same."""


class Transfer:
    """The way from one database to another.

    Args:
        source: what is read.
        target: what is written.
    """

    def __init__(self, source: ThreadSaver, target: ThreadSaver) -> None:
        self._source, self._target = _sealed(source), _sealed(target)

    async def copy(self, thread_id: str) -> bool:
        """Copy a session, unless the target has it already; return whether it was copied.

        Raises:
            Differs: the target has another session of this name, or the copy would not be the same.
        """
        stored = await self._source.database.read(partial(read, self._source, thread_id))
        there = await self._target.database.read(partial(read, self._target, thread_id))
        if there.session:
            if there.digest() != stored.digest():
                raise Differs(f"{_name(stored)}: the target has another session of that name. It was left alone.")
            return False
        await self._target.database.write(partial(write, self._target, stored))
        return True


async def threads_of(db: Database) -> AsyncIterator[str]:
    """Yield the threads of all sessions of a database, the one last used last: its turns are the newest there too."""
    query = f"""
    SELECT thread_id, updated_at FROM sessions WHERE (updated_at, thread_id) > (:used, :after)
    ORDER BY updated_at, thread_id LIMIT {AT_ONCE}
    """
    used, after = -1.0, ""
    while rows := await db.rows(query, used=used, after=after):
        for row in rows:
            yield row["thread_id"]
        used, after = rows[-1]["updated_at"], rows[-1]["thread_id"]


def read(saver: ThreadSaver, thread_id: str) -> StoredSession:
    """Return all that a database has of a session, in a piece of work; nothing where there is no such session."""
    db, tables = saver.database, saver.tables
    select = partial(db.select, thread=thread_id)
    session = db.one(f"SELECT {SESSION}, newest FROM sessions WHERE thread_id = :thread", thread=thread_id)
    if session is None:
        return StoredSession({}, (), (), (), ())
    turns = select(f"SELECT turn, {TURN} FROM turns WHERE thread_id = :thread ORDER BY turn")
    places = {turn["turn"]: place for place, turn in enumerate(turns)}
    writes = select(f"SELECT {WRITE}, {tables.value} AS value FROM {tables.writes} WHERE thread_id = :thread")
    checkpoints = saver.list({"configurable": {"thread_id": thread_id}})
    return StoredSession(
        session={**_columns(session), "newest": places.get(session["newest"])},
        turns=[{**_columns(turn, without="turn"), "parent": places.get(turn["parent"])} for turn in turns],
        responses=[*map(_columns, select(f"SELECT {RESPONSE} FROM responses WHERE thread_id = :thread ORDER BY id"))],
        checkpoints=sorted(checkpoints, key=_place),
        writes=sorted(map(_columns, writes), key=lambda row: [row[name] for name in WRITE.split(", ")[1:6]]),
        beside={
            name: [*map(_columns, select(f"SELECT {columns} FROM {name} WHERE thread_id = :thread ORDER BY {columns}"))]
            for name, columns in OWN.items()
        },
    )


def write(saver: ThreadSaver, stored: StoredSession) -> None:
    """Write a session, in a transaction.

    Raises:
        Differs: what is read again is not the same.
    """
    db, tables = saver.database, saver.tables
    for found in stored.checkpoints:
        thread_id, namespace, _ = _place(found)
        root: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
        versions = found.checkpoint["channel_versions"]
        saver.put(found.parent_config or root, found.checkpoint, found.metadata, versions)
    for row in stored.writes:
        db.execute(ENTER_WRITE.format(table=tables.writes, value=tables.value), **row)
    for name, rows in stored.beside.items():
        for row in rows:
            db.execute(_enter(name), thread_id=stored.session["thread_id"], **row)
    entered: list[int] = []
    for turn in stored.turns:
        db.execute(ENTER_TURN, **{**turn, "parent": _at(entered, turn["parent"])})
        [row] = db.select(ENTERED, thread_id=turn["thread_id"], digest=turn["digest"])
        entered.append(row["turn"])
    for response in stored.responses:
        db.execute(ENTER_RESPONSE, **response)
    db.execute(ENTER_SESSION, **{**stored.session, "newest": _at(entered, stored.session["newest"])})
    db.execute(count_bytes(tables), thread=stored.session["thread_id"])
    if read(saver, stored.session["thread_id"]).digest() != stored.digest():
        raise Differs(f"{_name(stored)}: the copy would not be the same.")


def _enter(table: str) -> str:
    columns = f"thread_id, {OWN[table]}"
    return f"INSERT INTO {table} ({columns}) VALUES (:{columns.replace(', ', ', :')})"


def _sealed(saver: ThreadSaver) -> ThreadSaver:
    sealed = copy(saver)
    sealed.serde = SealedSerializer()
    return sealed


def _columns(row: Row, without: str = "") -> dict[str, Any]:
    return {name: row[name] for name in row.keys() if name != without}  # noqa: SIM118 - SQLite's rows have no other way


def _place(found: CheckpointTuple) -> tuple[str, str, str]:
    at = found.config["configurable"]
    return at["thread_id"], at["checkpoint_ns"], at["checkpoint_id"]


def _at(entered: Sequence[int], place: int | None) -> int | None:
    return None if place is None else entered[place]


def _name(stored: StoredSession) -> str:
    return f"Session {stored.session['id']!r}"
