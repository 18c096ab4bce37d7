"""Open the session index that belongs to a database."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from graph.storage.saver import ThreadSaver
from graph.storage.sqlite import SqliteThreads
from server.sessions.index import SessionIndex
from server.sessions.migrations import migrate
from server.sessions.sqlite_index import SqliteIndex


async def open_index(saver: ThreadSaver) -> SessionIndex:
    """Return the index beside a database's checkpoints, with its tables migrated to the current version.

    Raises:
        CheckpointUrlError: a newer version of chat-agent has changed them.
    """
    return await INDEXES[type(saver)](saver)


async def _sqlite(saver: SqliteThreads) -> SessionIndex:
    await saver.database.read(partial(migrate, saver.conn))
    return SqliteIndex(saver)


INDEXES: Mapping[type[ThreadSaver], Callable[[Any], Awaitable[SessionIndex]]] = {SqliteThreads: _sqlite}
