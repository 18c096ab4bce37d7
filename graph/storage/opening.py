"""Open the database that CHECKPOINT_URL names."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from graph.storage.saver import CheckpointUrlError, ThreadSaver
from graph.storage.sqlite import claimed_file, open_sqlite

MEMORY = "memory://"
SQLITE = "sqlite:///"


@asynccontextmanager
async def open_checkpointer(url: str) -> AsyncIterator[ThreadSaver]:
    """Open the database that a URL names, `memory://` or `sqlite:///path`, and close it at the end.

    Raises:
        CheckpointUrlError: another kind of URL, or a database that cannot be opened.
    """
    with claimed(url):
        async with open_sqlite(sqlite_path(url)) as saver:
            yield saver


@contextmanager
def claimed(url: str) -> Iterator[None]:
    """Keep other processes from using a URL's database, if only one may; this process may enter it again.

    Raises:
        CheckpointUrlError: another process uses it, or it cannot be written.
    """
    path = sqlite_path(url)
    with claimed_file(path) if path else nullcontext():
        yield


def sqlite_path(url: str) -> Path | None:
    """Return the file of a `sqlite:///` URL, of which a fourth slash makes the path absolute; None for memory.

    Raises:
        CheckpointUrlError: another kind of URL.
    """
    if url == MEMORY:
        return None
    if not url.startswith(SQLITE) or not (path := url.removeprefix(SQLITE)):
        raise CheckpointUrlError(f"CHECKPOINT_URL is {url!r}; it may be sqlite:///file.db or memory://.")
    return Path(path)
