"""Deleting and copying parts of threads, as LangGraph's platform asks for: SQL on the saver's tables."""

from collections.abc import Sequence
from sqlite3 import Connection, Row

RUN = "json_extract(CAST(metadata AS TEXT), '$.run_id')"
# Channels that a checkpoint does not contain: LangGraph rebuilds them from the writes before it.
CHANGES_ONLY = "coalesce(json_extract(CAST(metadata AS TEXT), '$.counters_since_delta_snapshot'), '{}') != '{}'"
KEY = "thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
# The task ids under which a run with durability="exit" leaves its writes at the checkpoint that it followed.
OF_A_WHOLE_RUN = "(task_id LIKE 'ffffffff-%' OR task_id GLOB '0000[0-9][0-9][0-9][0-9]-*')"

Key = tuple[str, str, str]


class StillNeeded(ValueError):
    """What is to be deleted is needed by what stays; the platform answers 400 with the message."""

    def __init__(self) -> None:
        super().__init__(
            "This run cannot be deleted: later ones in its thread are stored as what they changed since. "
            "Delete the newest run first, or the thread."
        )


def delete_runs(db: Connection, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints and writes of runs; those before them are as they were.

    Raises:
        StillNeeded: a later checkpoint is made from them.
    """
    of_runs = db.execute(
        f"SELECT DISTINCT thread_id FROM checkpoints WHERE {RUN} IN ({', '.join('?' * len(run_ids))})", run_ids
    )
    for (thread_id,) in list(of_runs):
        rows = _checkpoints(db, thread_id)
        _delete(db, rows, {_key(row) for row in rows if row["run"] in run_ids})


def keep_latest(db: Connection, thread_id: str) -> None:
    """Delete all checkpoints of a thread but the latest one of each of its graphs.

    Raises:
        StillNeeded: it is made from those before it.
    """
    rows = _checkpoints(db, thread_id)
    latest = {row["checkpoint_ns"]: _key(row) for row in rows}
    _delete(db, rows, {_key(row) for row in rows} - set(latest.values()))


def copy_thread(db: Connection, source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread, in their order, to another one."""
    db.execute(
        "INSERT OR REPLACE INTO checkpoints "
        "SELECT ?, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, "
        "CAST(json_replace(CAST(metadata AS TEXT), '$.thread_id', ?) AS BLOB) "
        "FROM checkpoints WHERE thread_id = ? ORDER BY rowid",
        (target, target, source),
    )
    columns = "checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value"
    db.execute(
        f"INSERT OR REPLACE INTO writes (thread_id, {columns}) "
        f"SELECT ?, {columns} FROM writes WHERE thread_id = ? ORDER BY rowid",
        (target, source),
    )


def _checkpoints(db: Connection, thread_id: str) -> list[Row]:
    """Return what matters here of a thread's checkpoints, from the first to the latest."""
    rows = db.execute(
        f"SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, {RUN} AS run, "
        f"{CHANGES_ONLY} AS changes_only FROM checkpoints WHERE thread_id = ? ORDER BY checkpoint_id",
        (thread_id,),
    )
    return list(rows)


def _delete(db: Connection, rows: Sequence[Row], gone: set[Key]) -> None:
    kept = [row for row in rows if _key(row) not in gone]
    if any(row["changes_only"] and _parent(row) in gone for row in kept):
        raise StillNeeded
    followed = {_parent(row) for row in kept}
    ends = {_parent(row) for row in rows if _key(row) in gone} - gone - followed
    for table in ("checkpoints", "writes"):
        db.executemany(f"DELETE FROM {table} WHERE {KEY}", gone)
    db.executemany(f"DELETE FROM writes WHERE {KEY} AND {OF_A_WHOLE_RUN}", ends)


def _key(row: Row) -> Key:
    return row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]


def _parent(row: Row) -> Key:
    return row["thread_id"], row["checkpoint_ns"], row["parent_checkpoint_id"]
