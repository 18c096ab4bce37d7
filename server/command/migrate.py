"""Copy all sessions from one database to another: `chat-agent migrate FROM TO`."""

from contextlib import AsyncExitStack

from tqdm import tqdm

from graph.storage.opening import open_checkpointer, sqlite_path
from graph.storage.saver import CheckpointUrlError, ThreadSaver
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.sessions.transfer import Differs, Transfer, threads_of

IN_USE = "SELECT count(*) AS count FROM leases WHERE expires_at > clock_timestamp()"


async def migrate(source: str, target: str, *, is_dry_run: bool) -> int:
    """Copy the sessions that the target does not have, print what was done, and return the status to end with.

    Raises:
        CheckpointUrlError: a database cannot be used, or a server is using the source.
    """
    if source == target:
        raise CheckpointUrlError("FROM and TO are the same database.")
    async with AsyncExitStack() as stack:
        if (path := sqlite_path(source)) and not path.is_file():
            raise CheckpointUrlError(f"There is no database {path}.")
        here = await _open(stack, source)
        [counted] = await here.database.rows("SELECT count(*) AS count FROM sessions")
        if is_dry_run:
            print(f"{counted['count']} sessions would be copied, unless the target has them already.")
            return 0
        transfer = Transfer(here, await _open(stack, target))
        copied, known, failed = 0, 0, 0
        with tqdm(total=counted["count"], unit=" sessions", disable=None) as bar:
            async for thread_id in threads_of(here.database):
                try:
                    is_new = await transfer.copy(thread_id)
                except Differs as error:
                    tqdm.write(f"ERROR: {error}")
                    failed += 1
                else:
                    copied, known = copied + is_new, known + (not is_new)
                bar.update()
        print(f"{copied} sessions were copied and compared, {known} were there already, {failed} failed.")
        return 1 if failed else 0


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
