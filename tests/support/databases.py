"""Every kind of database: what holds for one holds for all."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest

from graph.storage.opening import open_checkpointer
from graph.storage.saver import ThreadSaver
from server.sessions.index import SessionIndex, open_index
from server.sessions.leases import Leases

SQLITE = "sqlite:///data/chat-agent.db"
KINDS = ["sqlite", "memory", "postgresql", "pgbouncer"]


def select(url: str, query: str) -> list[Any]:
    """Return rows of a database, read behind the server's back."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            return database.execute(query).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def change(url: str, statement: str) -> None:
    """Change a database behind the server's back."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, database:
            database.execute(statement)
    else:
        with psycopg.connect(url) as connection:
            connection.execute(statement.encode())


def empty_database(request: pytest.FixtureRequest, kind: str) -> str:
    """Return the address of an empty database."""
    match kind:
        case "memory":
            return "memory://"
        case "sqlite":
            return SQLITE
    made: str = request.getfixturevalue("postgres").new_database()
    if kind == "postgresql":
        return made
    return f"{request.getfixturevalue('pgbouncer')}/{made.rpartition('/')[2]}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[ThreadSaver, SessionIndex]]:
    """Open a database with the index of its sessions."""
    async with open_checkpointer(url) as saver:
        yield saver, await open_index(saver, Leases(session_wait=1))
