"""A database of threads in SQLite, opened as the server opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from graph.storage.opening import claimed
from graph.storage.sqlite import SqliteThreads, open_sqlite

DATABASE = Path("data/chat-agent.db")


@asynccontextmanager
async def sqlite_threads() -> AsyncIterator[SqliteThreads]:
    """Open the database that the settings name where they say nothing else."""
    with claimed(f"sqlite:///{DATABASE}"):
        async with open_sqlite(DATABASE) as saver:
            yield saver
