"""The tables of the session index, as numbered migrations.

Each migration runs once in a database, in one transaction, and is never changed afterwards. To change
a table, add one at the end.
"""

import time
from sqlite3 import Connection

from graph.storage.saver import CheckpointUrlError

APPLIED = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"

# Databases from before the numbers have these tables already.
M001_SESSIONS_AND_TURNS = """
CREATE TABLE IF NOT EXISTS sessions (
    thread_id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    habit TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    newest INTEGER,                -- the turn
    branches INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS sessions_of_a_principal ON sessions (principal, updated_at, thread_id);
CREATE INDEX IF NOT EXISTS sessions_by_age ON sessions (updated_at);
CREATE TABLE IF NOT EXISTS turns (
    turn INTEGER PRIMARY KEY,
    thread_id TEXT NOT NULL,
    parent INTEGER,                -- the turn that it follows; none for a root
    branch INTEGER NOT NULL,       -- counted from 1 in the order in which branches began
    number INTEGER NOT NULL,       -- its place on its branch, from 1
    asked BLOB NOT NULL,
    digest BLOB NOT NULL,
    waiting TEXT NOT NULL,         -- JSON: the ids of the client's tool calls that it ended with
    waits_for TEXT,                -- the first of them
    checkpoint_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS turns_by_digest ON turns (thread_id, digest);
CREATE INDEX IF NOT EXISTS turns_by_call ON turns (waits_for, thread_id) WHERE waits_for IS NOT NULL;
CREATE INDEX IF NOT EXISTS turns_by_branch ON turns (thread_id, branch);
CREATE INDEX IF NOT EXISTS turns_by_parent ON turns (thread_id, parent);
"""

# The agent that answered the turn: AGENTS may name several.
M002_AGENTS = "ALTER TABLE turns ADD COLUMN agent TEXT NOT NULL DEFAULT 'chat-agent'"

# What its turns have stored, regenerated ones included.
M003_BYTES = """
ALTER TABLE sessions ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET bytes =
    (SELECT coalesce(sum(length(checkpoint)), 0) FROM checkpoints WHERE checkpoints.thread_id = sessions.thread_id)
    + (SELECT coalesce(sum(length(value)), 0) FROM writes WHERE writes.thread_id = sessions.thread_id);
CREATE INDEX sessions_by_bytes ON sessions (principal, bytes);
"""

MIGRATIONS = (M001_SESSIONS_AND_TURNS, M002_AGENTS, M003_BYTES)


def migrate(db: Connection) -> None:
    """Make the tables of the index, or bring existing ones up to date.

    Raises:
        CheckpointUrlError: a newer version of chat-agent has changed them.
    """
    db.execute(APPLIED)
    (newest,) = db.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
    if newest > len(MIGRATIONS):
        raise CheckpointUrlError(
            "CHECKPOINT_URL: the database was used by a newer version of chat-agent. Install that version, or set "
            "CHECKPOINT_URL to another file."
        )
    for number, statements in enumerate(MIGRATIONS[newest:], newest + 1):
        applied = f"INSERT INTO migrations VALUES ({number}, {time.time()})"
        db.executescript(f"BEGIN; {statements}; {applied}; COMMIT")
