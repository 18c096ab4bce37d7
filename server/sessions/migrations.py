"""The tables of the session index, as numbered migrations for each kind of database.

Each migration runs once in a database, in one transaction, and is never changed afterwards. To change
a table, add one at the end for each kind.
"""

import time
from collections.abc import Mapping, Sequence

from graph.storage.database import Database
from graph.storage.saver import CheckpointUrlError

APPLIED = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at DOUBLE PRECISION NOT NULL)"

# Databases from before the numbers have these tables already.
M001_SESSIONS_AND_TURNS = (
    """
CREATE TABLE IF NOT EXISTS sessions (
    thread_id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    habit TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    newest INTEGER,                -- the turn
    branches INTEGER NOT NULL DEFAULT 0
)
    """,
    """
CREATE INDEX IF NOT EXISTS sessions_of_a_principal ON sessions (principal, updated_at, thread_id)
    """,
    """
CREATE INDEX IF NOT EXISTS sessions_by_age ON sessions (updated_at)
    """,
    """
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
)
    """,
    """
CREATE INDEX IF NOT EXISTS turns_by_digest ON turns (thread_id, digest)
    """,
    """
CREATE INDEX IF NOT EXISTS turns_by_call ON turns (waits_for, thread_id) WHERE waits_for IS NOT NULL
    """,
    """
CREATE INDEX IF NOT EXISTS turns_by_branch ON turns (thread_id, branch)
    """,
    """
CREATE INDEX IF NOT EXISTS turns_by_parent ON turns (thread_id, parent)
    """,
)

# The agent that answered the turn: AGENTS may name several.
M002_AGENTS = ("ALTER TABLE turns ADD COLUMN agent TEXT NOT NULL DEFAULT 'chat-agent'",)

# What its turns have stored, regenerated ones included.
M003_BYTES = (
    "ALTER TABLE sessions ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
    """
UPDATE sessions SET bytes =
    (SELECT coalesce(sum(length(checkpoint)), 0) FROM checkpoints WHERE checkpoints.thread_id = sessions.thread_id)
    + (SELECT coalesce(sum(length(value)), 0) FROM writes WHERE writes.thread_id = sessions.thread_id)
    """,
    "CREATE INDEX sessions_by_bytes ON sessions (principal, bytes)",
)


# Responses of the Responses API. `bytes` of a session counts them too.
M004_RESPONSES = (
    """
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    session TEXT NOT NULL,         -- its id; a response may be older than its session's first turn
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    input BLOB NOT NULL,           -- JSON: the items that its request added
    resource BLOB NOT NULL,        -- JSON: what its client got
    beat REAL,                       -- when its process was last seen; only of those made in the background
    ended_at REAL,                   -- in the database's time, as the beat is
    is_streamed INTEGER NOT NULL DEFAULT 0,  -- whether its events can be had
    is_cancelled INTEGER NOT NULL DEFAULT 0
)
    """,
    "CREATE INDEX responses_of_a_thread ON responses (thread_id)",
    "CREATE INDEX responses_by_end ON responses (ended_at) WHERE is_streamed",
    # What the stream of a response in the background has told, for readers that come later.
    """
CREATE TABLE response_events (
    thread_id TEXT NOT NULL,
    response TEXT NOT NULL,
    first INTEGER NOT NULL,        -- the number of the first event in `frames`
    frames BLOB NOT NULL,
    PRIMARY KEY (thread_id, response, first)
)
    """,
    "ALTER TABLE turns ADD COLUMN response TEXT",
    "ALTER TABLE turns ADD COLUMN standing TEXT",  # JSON: what system messages said that stand for its chain
    "ALTER TABLE turns ADD COLUMN awaits TEXT",  # JSON: the calls that a person must approve
    "ALTER TABLE sessions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'",  # JSON
    "CREATE UNIQUE INDEX turns_by_response ON turns (response) WHERE response IS NOT NULL",
)


P001_SESSIONS_AND_TURNS = (
    """
CREATE TABLE sessions (
    thread_id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    habit TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    newest BIGINT,                 -- the turn
    branches INTEGER NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0
)
    """,
    "CREATE INDEX sessions_of_a_principal ON sessions (principal, updated_at, thread_id)",
    "CREATE INDEX sessions_by_age ON sessions (updated_at)",
    "CREATE INDEX sessions_by_bytes ON sessions (principal, bytes)",
    """
CREATE TABLE turns (
    turn BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id TEXT NOT NULL,
    parent BIGINT,                 -- the turn that it follows; none for a root
    branch INTEGER NOT NULL,       -- counted from 1 in the order in which branches began
    number INTEGER NOT NULL,       -- its place on its branch, from 1
    asked BYTEA NOT NULL,
    digest BYTEA NOT NULL,
    waiting TEXT NOT NULL,         -- JSON: the ids of the client's tool calls that it ended with
    waits_for TEXT,                -- the first of them
    checkpoint_id TEXT NOT NULL,
    agent TEXT NOT NULL            -- which answered it: AGENTS may name several
)
    """,
    "CREATE SEQUENCE lease_tokens",
    # Which process runs in which session. Not in the log: after a crash of the server nobody holds anything.
    """
CREATE UNLOGGED TABLE leases (
    thread_id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,           -- the process
    token BIGINT NOT NULL DEFAULT nextval('lease_tokens'),
    run_began DOUBLE PRECISION,    -- NULL where it is not held for a run
    is_cancelled BOOLEAN NOT NULL DEFAULT FALSE,
    expires_at TIMESTAMPTZ NOT NULL
)
    """,
    "CREATE INDEX turns_by_digest ON turns (thread_id, digest, turn)",
    "CREATE INDEX turns_by_call ON turns (waits_for, thread_id) WHERE waits_for IS NOT NULL",
    "CREATE INDEX turns_by_branch ON turns (thread_id, branch, turn)",
    "CREATE INDEX turns_by_parent ON turns (thread_id, parent)",
)

P002_RESPONSES = (
    """
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    session TEXT NOT NULL,         -- its id; a response may be older than its session's first turn
    status TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    input BYTEA NOT NULL,          -- JSON: the items that its request added
    resource BYTEA NOT NULL,       -- JSON: what its client got
    beat DOUBLE PRECISION,           -- when its process was last seen; only of those made in the background
    ended_at DOUBLE PRECISION,       -- in the database's time, as the beat is
    is_streamed BOOLEAN NOT NULL DEFAULT FALSE,  -- whether its events can be had
    is_cancelled BOOLEAN NOT NULL DEFAULT FALSE
)
    """,
    "CREATE INDEX responses_of_a_thread ON responses (thread_id)",
    "CREATE INDEX responses_by_end ON responses (ended_at) WHERE is_streamed",
    # What the stream of a response in the background has told, for readers that come later.
    """
CREATE TABLE response_events (
    thread_id TEXT NOT NULL,
    response TEXT NOT NULL,
    first INTEGER NOT NULL,        -- the number of the first event in `frames`
    frames BYTEA NOT NULL,
    PRIMARY KEY (thread_id, response, first)
)
    """,
    "ALTER TABLE turns ADD COLUMN response TEXT",
    "ALTER TABLE turns ADD COLUMN standing TEXT",  # JSON: what system messages said that stand for its chain
    "ALTER TABLE turns ADD COLUMN awaits TEXT",  # JSON: the calls that a person must approve
    "ALTER TABLE sessions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}'",  # JSON
    "CREATE UNIQUE INDEX turns_by_response ON turns (response) WHERE response IS NOT NULL",
)

MIGRATIONS: Mapping[str, Sequence[Sequence[str]]] = {
    "sqlite": (M001_SESSIONS_AND_TURNS, M002_AGENTS, M003_BYTES, M004_RESPONSES),
    "postgresql": (P001_SESSIONS_AND_TURNS, P002_RESPONSES),
}


def migrate(db: Database) -> None:
    """Make the tables of the index, or bring existing ones up to date, in a transaction.

    In a database of one process no response is made any more that was in progress.

    Raises:
        CheckpointUrlError: a newer version of chat-agent has changed them.
    """
    db.lock_schema()
    db.execute(APPLIED)
    [row] = db.select("SELECT coalesce(max(number), 0) AS newest FROM migrations")
    newest, known = row["newest"], MIGRATIONS[db.kind]
    if newest > len(known):
        raise CheckpointUrlError(
            "CHECKPOINT_URL: the database was used by a newer version of chat-agent. Install that version, or set "
            "CHECKPOINT_URL to another one."
        )
    for number, statements in enumerate(known[newest:], newest + 1):
        for statement in statements:
            db.execute(statement)
        db.execute("INSERT INTO migrations VALUES (:number, :now)", number=number, now=time.time())
    if not db.is_shared:
        db.execute("UPDATE responses SET beat = 0 WHERE ended_at IS NULL AND beat IS NOT NULL")
