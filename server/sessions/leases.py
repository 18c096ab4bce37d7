"""Who may run in a session: one run at a time, first come first served."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from server.errors import ApiError, SessionBusy
from server.sessions.naming import Session
from tools.tasks import to_the_end

StopRun = Callable[[str, ApiError], object]
"""Stops the run in progress in a thread; its reader is told the error."""


@dataclass
class Lease:
    """A lease of this process: its token, and the moment of `time.monotonic` before which it was renewed last."""

    token: int
    renewed_at: float
    is_ending: bool = False
    """Whether the transaction that ends it has begun."""
    is_lost: bool = False
    """Whether the run was stopped for it: nothing may be stored under it any more."""


class Leases:
    """The sessions that this process holds, in a database that no other process uses.

    Args:
        session_wait: seconds to wait for a session.
    """

    def __init__(self, *, session_wait: float) -> None:
        self._session_wait = session_wait
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: dict[str, Lease] = {}
        """Those that other processes know of, by thread."""

    @asynccontextmanager
    async def held(
        self, session: Session, *, wait: float | None = None, run_began: float | None = None
    ) -> AsyncIterator[None]:
        """Hold a session, for a run that began at a Unix time or for something else.

        Args:
            session: what nobody else may change meanwhile.
            wait: seconds to wait for it, instead of `session_wait`.
            run_began: when the run began that needs it.

        Raises:
            SessionBusy: it was not free in time.
        """
        until = time.monotonic() + (self._session_wait if wait is None else wait)
        lock = self._locks.setdefault(session.thread_id, asyncio.Lock())
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await lock.acquire()
        except TimeoutError:
            raise session_busy() from None
        try:
            await self.claim(session, until, run_began)
            yield
        finally:
            try:
                if session.thread_id in self._held:
                    await to_the_end(self.give_up(session))
            finally:
                lock.release()

    def has(self, session: Session) -> bool:  # noqa: ARG002 - there is nobody else
        """Whether no other process may hold a session at this moment."""
        return True

    async def claim(self, session: Session, until: float, run_began: float | None) -> None:
        """Claim a session from other processes, until a moment of `time.monotonic`.

        Raises:
            SessionBusy: it was not free in time.
        """

    async def give_up(self, session: Session) -> None:
        """Let other processes claim a session."""

    def check(self, session: Session) -> None:
        """Check in a transaction that the session is held, and will be until it ends.

        Raises:
            Unavailable: another process may have it.
        """

    def end(self, session: Session) -> None:
        """Give a session up in the transaction that stores its turn; nothing is stored if it is not held any more.

        Raises:
            Unavailable: another process has it.
        """

    def ended(self, session: Session) -> None:
        """Note that this transaction was committed."""

    async def keep(self, stop_run: StopRun) -> None:
        """Hold what is held for as long as the server runs, and stop runs that other processes ask to be stopped."""

    async def cancel(self, session: Session) -> bool:  # noqa: ARG002 - there is nobody else
        """Stop the run that another process has in a session, and wait for its end; return whether there was one."""
        return False

    async def running_elsewhere(self, sessions: Collection[Session]) -> Collection[Session]:  # noqa: ARG002
        """Return those of the sessions in which other processes run."""
        return ()

    async def begun_elsewhere(self, principal: str) -> Sequence[tuple[Session, float]]:  # noqa: ARG002
        """Return a principal's sessions whose first turn another process runs, and since when; the newest first."""
        return ()


def session_busy() -> SessionBusy:
    """Return the error for a session that was not free in time."""
    return SessionBusy(
        "The session is busy with another request. Try again when that is done.",
        code="session_busy",
        headers={"Retry-After": "1"},
    )
