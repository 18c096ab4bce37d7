"""Copy all sessions from one database to another: `chat-agent migrate FROM TO`."""

from contextlib import AsyncExitStack

from tqdm import tqdm

from graph.storage.database import DatabaseUnavailable
from graph.storage.database_file import DatabaseMoved
from graph.storage.opening import open_checkpointer, sqlite_path
from graph.storage.saver import CheckpointUrlError, ThreadSaver
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.sessions.transfer import Differs, Transfer, threads_of

COUNT = "SELECT count(*) AS count, coalesce(max(updated_at), 0) AS latest FROM sessions"
IN_USE = "SELECT count(*) AS count FROM leases WHERE expires_at > clock_timestamp()"


async def migrate(source: str, target: str, *, is_dry_run: bool) -> int:
    """Copy the sessions that the target does not have, print what was done, and return the status to end with.

    Raises:
        CheckpointUrlError: a database cannot be used, or a server is using one.
        DatabaseUnavailable: a database broke off.
    """
    if source == target:
        raise CheckpointUrlError("FROM and TO are the same database.")
    if (path := sqlite_path(source)) and not path.is_file():
        raise CheckpointUrlError(f"There is no database {path}.")
    async with AsyncExitStack() as stack:
        here = await _open(stack, source)
        [before] = await here.database.rows(COUNT)
        if is_dry_run:
            print(f"Sessions that would be copied, unless the target has them: {before['count']}.")
            return 0
        transfer = Transfer(here, await _open(stack, target))
        copied, known, failed = 0, 0, 0
        with tqdm(total=before["count"], unit=" sessions", disable=None) as bar:
            async for thread_id in threads_of(here.database):
                try:
                    is_new = await transfer.copy(thread_id)
                except (DatabaseUnavailable, DatabaseMoved):
                    raise
                except Exception as error:  # whatever is wrong with one session, the others go on
                    failed += 1
                    tqdm.write(f"ERROR: {error if isinstance(error, Differs) else _unreadable(thread_id, error)}")
                else:
                    copied, known = copied + is_new, known + (not is_new)
                bar.update()
        print(f"Sessions copied and compared: {copied}. There already: {known}. Failed: {failed}.")
        [after] = await here.database.rows(COUNT)
        if dict(after) != dict(before):
            raise CheckpointUrlError("The sessions changed meanwhile: a server is using FROM. Stop it and start again.")
        return 1 if failed else 0


def _unreadable(thread_id: str, error: Exception) -> str:
    # Without the error's words, which may have what was said in them.
    return f"The session of thread {thread_id} cannot be copied: {type(error).__name__}."


async def _open(stack: AsyncExitStack, url: str) -> ThreadSaver:
    if url.startswith("memory:"):
        raise CheckpointUrlError("memory:// keeps nothing that could be copied.")
    saver = await stack.enter_async_context(open_checkpointer(url))
    await open_index(saver, Leases(session_wait=0))
    if saver.database.is_shared:
        [leases] = await saver.database.rows(IN_USE)
        if leases["count"]:
            raise CheckpointUrlError("A server is answering requests on one of the databases. Stop it first.")
    return saver
