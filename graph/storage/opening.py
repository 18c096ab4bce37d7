"""Open the database that CHECKPOINT_URL names."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from graph.storage.saver import CheckpointUrlError, ThreadSaver
from graph.storage.sqlite import claimed_file, open_sqlite

MEMORY = "memory://"
SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")


@asynccontextmanager
async def open_checkpointer(url: str) -> AsyncIterator[ThreadSaver]:
    """Open the database that a URL names, and close it at the end: `sqlite:///path`, `postgresql://…` or `memory://`.

    Raises:
        CheckpointUrlError: another kind of URL, or a database that cannot be opened.
    """
    if url.startswith(POSTGRES):
        async with _open_postgres(url) as saver:
            yield saver
        return
    with claimed(url):
        async with open_sqlite(sqlite_path(url)) as saver:
            yield saver


def _open_postgres(url: str) -> AbstractAsyncContextManager[ThreadSaver]:
    try:
        from graph.storage.postgres import open_postgres  # needs an extra package
    except ImportError as error:
        raise CheckpointUrlError(
            "CHECKPOINT_URL: PostgreSQL needs the extra 'postgres': pip install '.[postgres]'"
        ) from error
    return open_postgres(url)


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
    """Return the file of a `sqlite:///` URL, of which a fourth slash makes the path absolute; None for others.

    Raises:
        CheckpointUrlError: another kind of URL.
    """
    if url == MEMORY or url.startswith(POSTGRES):
        return None
    if not url.startswith(SQLITE) or not (path := url.removeprefix(SQLITE)):
        raise CheckpointUrlError(
            "A database is sqlite:///file.db, postgresql://user:password@host/database or memory://."
        )
    return Path(path)
