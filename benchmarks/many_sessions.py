"""What a turn costs in a PostgreSQL database with more and more sessions: `make bench-sessions`.

A session of five turns is made through the server, and copied in the database. Turns of new sessions and of a known
one are measured at each size: the CPU time of the server and of PostgreSQL, and what a session takes on disk. What is
said of a million sessions in docs/scaling.md is extrapolated from that.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.load import Load, put_on
from benchmarks.servers import Running, endpoint, serving
from tests.support.postgres import Postgres, running_postgres

SIZES = (1_000, 10_000, 100_000)
TURNS = Load("not streamed, 8 at once, a new session each", at_once=8, requests=400, tokens=20, streamed=False)
FIVE = Load("the session that is copied", at_once=1, requests=5, tokens=20, streamed=False)
KNOWN = Load("not streamed, one at a time, one session", at_once=1, requests=60, tokens=20, streamed=False)
COPIED = {
    "sessions": "principal, id || number, habit, created_at, updated_at, newest, branches, bytes",
    "turns": "parent, branch, number, asked, digest, waiting, waits_for, checkpoint_id, agent",
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob",
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes: Sequence[int] = parser.parse_args().sizes
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint() as url,
        running_postgres(keeps=True) as database,
    ):
        name = database.new_database()
        settings = {"USE_MCP_TOOLS": "false", "CHECKPOINT_URL": name}
        with serving("chat-agent", url, Path(folder), **settings) as server:
            asyncio.run(put_on(FIVE, server.port, "original"))
            print("| sessions | CPU of a turn: server | PostgreSQL | a known session, ms | a session on disk |")
            print("|---|---|---|---|---|")
            there = 1
            for size in sizes:
                grow(name, there, size)
                there = size
                print(" | ".join(["", *row(size, server, database, name), ""]).strip())


def grow(database: str, first: int, last: int) -> None:
    """Copy the first session until there are so many."""
    with psycopg.connect(database, autocommit=True) as connection:
        for table, columns in COPIED.items():
            into = columns.replace(" || number", "")
            copy = f"""
            INSERT INTO {table} (thread_id, {into}) SELECT 'copy-' || copied, {with_number(columns)}
            FROM {table} AS one, generate_series({first}, {last - 1}) AS copied
            WHERE one.thread_id = (SELECT thread_id FROM sessions WHERE id = 'original')
            """
            connection.execute(copy.encode())
        connection.execute("VACUUM ANALYZE")


def with_number(columns: str) -> str:
    """Return columns of the first session, as they are in a copy."""
    return ", ".join(f"one.{column}" for column in columns.split(", ")).replace("|| number", "|| '-' || copied")


def row(size: int, server: Running, database: Postgres, name: str) -> Iterator[str]:
    """Measure at one size."""
    asyncio.run(put_on(TURNS, server.port))
    ours, theirs = server.cpu(), backend_seconds(database)
    asyncio.run(put_on(TURNS, server.port))
    ours, theirs = server.cpu() - ours, backend_seconds(database) - theirs
    known = median(asyncio.run(put_on(KNOWN, server.port, f"known-{size}"))[-20:])
    with psycopg.connect(name) as connection:
        [(held,)] = connection.execute("SELECT pg_database_size(current_database())")
    yield f"{size:,}"
    yield f"{1000 * ours / TURNS.requests:.2f} ms"
    yield f"{1000 * theirs / TURNS.requests:.2f} ms"
    yield f"{1000 * known:.1f}"
    yield f"{held / size / 1000:.1f} kB"


def backend_seconds(database: Postgres) -> float:
    """Return the CPU seconds of PostgreSQL's processes so far, those that have ended included."""
    assert database.process
    return Running("postgres", database.port, database.process.pid).cpu_with_ended()


if __name__ == "__main__":
    main()
