"""Deleting and copying parts of threads, as LangGraph's platform asks for: SQL on the saver's tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from graph.storage import approved_calls, summaries
from graph.storage.database import Database, Row

KEY = "thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND checkpoint_id = :checkpoint_id"
CHECKPOINT_COLUMNS = "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint"

Key = tuple[str, str, str]
# Our own tables beside those of LangGraph, and their columns but for the thread.
OWN = {approved_calls.NAME: approved_calls.COLUMNS, summaries.NAME: summaries.COLUMNS}
CREATE_OWN = (approved_calls.CREATE, summaries.CREATE)


@dataclass(frozen=True, kw_only=True)
class ThreadTables:
    """The tables of LangGraph's saver in a kind of database, and the SQL in which the kinds differ."""

    writes: str
    """The table of writes; that of checkpoints is called `checkpoints` everywhere."""
    value: str
    """The column of a write's value."""
    blobs: str | None
    """The table of values that several checkpoints share, if there is one."""
    run_id: str
    """The run that wrote a checkpoint."""
    changes_only: str
    """Whether a checkpoint lacks channels, which LangGraph rebuilds from the writes before it."""
    of_a_whole_run: str
    """Whether a run with durability="exit" made a write; it leaves them at the checkpoint before it."""
    metadata_in: str
    """A checkpoint's metadata in the thread `:target`."""
    bytes_of_session: str
    """The bytes that the thread of a row of `sessions` has stored."""

    @property
    def names(self) -> Sequence[str]:
        """The names of all tables."""
        return ["checkpoints", *filter(None, [self.blobs]), self.writes, *OWN]


class StillNeeded(ValueError):
    """What is to be deleted is needed by what stays; the platform answers 400 with the message."""

    def __init__(self) -> None:
        super().__init__(
            "This run cannot be deleted: later ones in its thread are stored as what they changed since. "
            "Delete the newest run first, or the thread."
        )


def delete_runs(db: Database, tables: ThreadTables, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints and writes of runs; those before them are as they were.

    Raises:
        StillNeeded: a later checkpoint is made from them.
    """
    of_runs = f"SELECT DISTINCT thread_id FROM checkpoints WHERE {tables.run_id} IN (:listed)"
    for thread in db.select_among(of_runs, run_ids):
        rows = _checkpoints(db, tables, thread["thread_id"])
        _delete(db, tables, rows, {_key(row) for row in rows if row["run"] in run_ids})


def keep_latest(db: Database, tables: ThreadTables, thread_id: str) -> None:
    """Delete all checkpoints of a thread but the latest one of each of its graphs.

    Raises:
        StillNeeded: it is made from those before it.
    """
    rows = _checkpoints(db, tables, thread_id)
    latest = {row["checkpoint_ns"]: _key(row) for row in rows}
    _delete(db, tables, rows, {_key(row) for row in rows} - set(latest.values()))


def copy_thread(db: Database, tables: ThreadTables, source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread to another one, and what we keep of it beside them."""
    copied = {
        **{name: (columns, columns) for name, columns in OWN.items()},
        "checkpoints": (f"{CHECKPOINT_COLUMNS}, metadata", f"{CHECKPOINT_COLUMNS}, {tables.metadata_in}"),
        tables.writes: (f"checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, {tables.value}",) * 2,
    }
    if tables.blobs:
        copied[tables.blobs] = (f"checkpoint_ns, channel, version, type, {tables.value}",) * 2
    for table, (columns, values) in copied.items():
        db.execute(
            f"INSERT INTO {table} (thread_id, {columns}) SELECT CAST(:target AS TEXT), {values} FROM {table} "
            "WHERE thread_id = :source ON CONFLICT DO NOTHING",
            source=source,
            target=target,
        )


def _checkpoints(db: Database, tables: ThreadTables, thread_id: str) -> Sequence[Row]:
    """Return what matters here of a thread's checkpoints, from the first to the latest."""
    return db.select(
        f"SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, {tables.run_id} AS run, "
        f"{tables.changes_only} AS changes_only FROM checkpoints WHERE thread_id = :thread ORDER BY checkpoint_id",
        thread=thread_id,
    )


def _delete(db: Database, tables: ThreadTables, rows: Sequence[Row], gone: set[Key]) -> None:
    kept = [row for row in rows if _key(row) not in gone]
    if any(row["changes_only"] and _parent(row) in gone for row in kept):
        raise StillNeeded
    followed = {_parent(row) for row in kept}
    ends = {_parent(row) for row in rows if _key(row) in gone} - gone - followed
    for key in gone:
        for table in ("checkpoints", tables.writes):
            db.execute(f"DELETE FROM {table} WHERE {KEY}", **_named(key))
    for key in ends:
        db.execute(f"DELETE FROM {tables.writes} WHERE {KEY} AND {tables.of_a_whole_run}", **_named(key))
    if tables.blobs:
        for thread_id in {thread_id for thread_id, _, _ in gone}:
            db.execute(_unused(tables.blobs), thread=thread_id)


def _unused(blobs: str) -> str:
    return (
        f"DELETE FROM {blobs} AS blob WHERE thread_id = :thread AND NOT EXISTS (SELECT 1 FROM checkpoints AS kept "
        "WHERE kept.thread_id = blob.thread_id AND kept.checkpoint_ns = blob.checkpoint_ns "
        "AND kept.checkpoint -> 'channel_versions' ->> blob.channel = blob.version)"
    )


def _named(key: Key) -> dict[str, str]:
    return dict(zip(("thread_id", "checkpoint_ns", "checkpoint_id"), key, strict=True))


def _key(row: Row) -> Key:
    return row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]


def _parent(row: Row) -> Key:
    return row["thread_id"], row["checkpoint_ns"], row["parent_checkpoint_id"]
