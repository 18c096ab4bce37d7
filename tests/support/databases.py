"""Every kind of database: what holds for one holds for all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from graph.storage.opening import open_checkpointer
from graph.storage.saver import ThreadSaver
from server.sessions.index import SessionIndex, open_index

URLS = ["sqlite:///data/chat-agent.db", "memory://"]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[ThreadSaver, SessionIndex]]:
    """Open a database with the index of its sessions."""
    async with open_checkpointer(url) as saver:
        yield saver, await open_index(saver)
