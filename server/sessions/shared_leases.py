"""Leases in a database that several processes use: in each session one of them runs at a time.

A process claims a session with one statement, on the database's clock, and renews its leases for as long as its runs go
on. Each claim has a greater token. The transaction that stores a turn ends the lease that has the run's token; so a
process that was stopped for longer than a lease lasts stores nothing when it goes on, since another may have claimed
the session ("fencing": Kleppmann, How to do distributed locking, 2016).

Whether a run is in progress is read from its lease alone, so a process that dies leaves no session busy.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from functools import partial
from uuid import uuid4

from typing_extensions import override

from graph.storage.database import Database, DatabaseLocked, DatabaseUnavailable
from server.errors import RunCancelled, Unavailable
from server.sessions.leases import Lease, Leases, StopRun, session_busy
from server.sessions.naming import Session
from tools.tasks import end_tasks, to_the_end

log = logging.getLogger(__name__)

# Seconds: how long a lease lasts, and how often it is renewed.
LIFETIME, RENEWAL = 20.0, 5.0
# How long before its end a process that could not renew a lease stops the run, since clocks differ.
MARGIN = 2.0
# Seconds between two looks: for sessions to stop, and for one that another process holds.
LOOK = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2

IS_LIVE = "expires_at > clock_timestamp()"
EXPIRY = f"clock_timestamp() + interval '{LIFETIME} s'"
CLAIM = f"""
INSERT INTO leases (thread_id, principal, id, owner, run_began, expires_at)
VALUES (:thread, :principal, :id, :owner, :run_began, {EXPIRY})
ON CONFLICT (thread_id) DO UPDATE SET
    owner = excluded.owner, token = excluded.token, run_began = excluded.run_began, expires_at = excluded.expires_at,
    is_cancelled = FALSE
WHERE leases.expires_at <= clock_timestamp()
RETURNING token
"""
MINE = "SELECT 1 FROM leases WHERE thread_id = :thread AND owner = :owner AND token = :token FOR UPDATE"
END = "DELETE FROM leases WHERE thread_id = :thread AND owner = :owner AND token = :token RETURNING token"
END_LEFT = "DELETE FROM leases WHERE owner = :owner AND token IN (:listed) RETURNING token"
RENEW = f"UPDATE leases SET expires_at = {EXPIRY} WHERE owner = :owner AND token IN (:listed) RETURNING token"
CANCELLED = "SELECT thread_id, token FROM leases WHERE owner = :owner AND is_cancelled"
CANCEL = f"""
UPDATE leases SET is_cancelled = TRUE
WHERE thread_id = :thread AND owner <> :owner AND run_began IS NOT NULL AND {IS_LIVE} RETURNING token
"""
GOES_ON = f"SELECT 1 FROM leases WHERE thread_id = :thread AND token = :token AND {IS_LIVE}"
ELSEWHERE = f"""
SELECT thread_id FROM leases
WHERE thread_id IN (:listed) AND owner <> :owner AND run_began IS NOT NULL AND {IS_LIVE}
"""
BEGUN = f"""
SELECT id, run_began FROM leases
WHERE principal = :principal AND owner <> :owner AND run_began IS NOT NULL AND {IS_LIVE}
AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.thread_id = leases.thread_id) ORDER BY run_began DESC
"""


class SharedLeases(Leases):
    """The sessions that this process holds, in a database that other processes use too.

    Args:
        db: the database.
        session_wait: seconds to wait for a session.
    """

    def __init__(self, db: Database, *, session_wait: float) -> None:
        super().__init__(session_wait=session_wait)
        self._db, self._owner = db, uuid4().hex
        self._left: set[int] = set()
        """Tokens of leases that are to be ended when the database answers again."""
        self._renew_at, self._is_failing = 0.0, False

    @override
    def has(self, session: Session) -> bool:
        return session.thread_id in self._held

    @override
    async def claim(self, session: Session, until: float, run_began: float | None) -> None:
        pause = FIRST_PAUSE
        # To the end: a claim whose caller is cancelled must be known, to be given up.
        while not await to_the_end(self._claim(session, run_began)):
            if time.monotonic() + pause > until:
                raise session_busy()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _claim(self, session: Session, run_began: float | None) -> bool:
        now, thread = time.monotonic(), session.thread_id
        named = {"thread": thread, "principal": session.principal, "id": session.id}
        try:
            claimed = await self._db.do(CLAIM, **named, owner=self._owner, run_began=run_began)
        except DatabaseLocked:  # its holder is storing a turn
            return False
        for row in claimed:
            self._held[thread] = Lease(row["token"], now)
        return bool(claimed)

    @override
    async def give_up(self, session: Session) -> None:
        lease = self._held.pop(session.thread_id)
        try:
            await self._db.do(END, thread=session.thread_id, owner=self._owner, token=lease.token)
        except DatabaseUnavailable as error:
            self._left.add(lease.token)
            log.warning("A session stays busy until the database answers, or for %g s. %s", LIFETIME, error)

    @override
    def check(self, session: Session) -> None:
        lease = self._held[session.thread_id]
        if lease.is_lost or not self._is_mine(MINE, session, lease):
            raise lease_lost()

    @override
    def end(self, session: Session) -> None:
        lease = self._held[session.thread_id]
        lease.is_ending = True
        if lease.is_lost or not self._is_mine(END, session, lease):
            raise lease_lost()

    def _is_mine(self, statement: str, session: Session, lease: Lease) -> bool:
        return bool(self._db.select(statement, thread=session.thread_id, owner=self._owner, token=lease.token))

    @override
    def ended(self, session: Session) -> None:
        del self._held[session.thread_id]

    @override
    async def keep(self, stop_run: StopRun) -> None:
        # One at a time, and never cut off: a renewal that took long counts from when it was sent.
        looking = asyncio.create_task(self._look(stop_run))
        try:
            while True:
                await asyncio.sleep(LOOK)
                self._stop_expired(stop_run)
                if looking.done() and (self._held or self._left):
                    self._tell_failure(looking.exception())
                    looking = asyncio.create_task(self._look(stop_run))
        finally:
            await end_tasks({looking})

    async def _look(self, stop_run: StopRun) -> None:
        """Renew the leases if it is time, stop runs that are cancelled elsewhere, and end what could not be ended."""
        if self._held and time.monotonic() >= self._renew_at:
            await self._renew(stop_run)
            self._renew_at = time.monotonic() + RENEWAL
        if self._held:
            select = partial(self._db.select, CANCELLED, owner=self._owner)
            for row in await self._db.urgently(select):
                lease = self._held.get(row["thread_id"])
                if lease and lease.token == row["token"]:
                    stop_run(row["thread_id"], RunCancelled())
        if left := [*self._left]:
            await self._db.read(partial(self._db.select_among, END_LEFT, left, owner=self._owner))
            self._left.difference_update(left)

    async def _renew(self, stop_run: StopRun) -> None:
        now, before = time.monotonic(), dict(self._held)
        # Those that it knows alone: a claim whose answer was lost must expire.
        tokens = [lease.token for lease in before.values()]
        renew = partial(self._db.select_among, RENEW, tokens, owner=self._owner)
        renewed = {row["token"] for row in await self._db.urgently(renew)}
        for thread, lease in before.items():
            if lease.token in renewed:
                lease.renewed_at = now
            elif self._held.get(thread) is lease:
                self._lose(thread, lease, stop_run)

    def _stop_expired(self, stop_run: StopRun) -> None:
        """Stop the runs whose leases were not renewed in time, before another process may claim their sessions."""
        latest = time.monotonic() - LIFETIME + MARGIN
        for thread, lease in [*self._held.items()]:
            if lease.renewed_at < latest:
                self._lose(thread, lease, stop_run)

    def _lose(self, thread: str, lease: Lease, stop_run: StopRun) -> None:
        if not lease.is_ending:  # the transaction that ends it finds out by itself
            lease.is_lost = True
            stop_run(thread, lease_lost())

    def _tell_failure(self, error: BaseException | None) -> None:
        """Log that the leases cannot be renewed, once, and when they can be again."""
        if error and not self._is_failing:
            is_defect = not isinstance(error, DatabaseUnavailable)
            log.warning(
                "Leases could not be renewed; it is tried again. %s", error, exc_info=error if is_defect else None
            )
        if self._is_failing and not error:
            log.info("Leases are renewed again.")
        self._is_failing = error is not None

    @override
    async def cancel(self, session: Session) -> bool:
        cancelled = await self._db.do(CANCEL, thread=session.thread_id, owner=self._owner)
        for row in cancelled:
            pause = FIRST_PAUSE
            while await self._db.rows(GOES_ON, thread=session.thread_id, token=row["token"]):
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return bool(cancelled)

    @override
    async def running_elsewhere(self, sessions: Collection[Session]) -> Collection[Session]:
        threads = {session.thread_id: session for session in sessions}
        look = partial(self._db.select_among, ELSEWHERE, [*threads], owner=self._owner)
        return {threads[row["thread_id"]] for row in await self._db.read(look)}

    @override
    async def begun_elsewhere(self, principal: str) -> Sequence[tuple[Session, float]]:
        rows = await self._db.rows(BEGUN, principal=principal, owner=self._owner)
        return [(Session(principal, row["id"]), row["run_began"]) for row in rows]


def open_leases(db: Database, *, session_wait: float) -> Leases:
    """Return the leases in a database."""
    return SharedLeases(db, session_wait=session_wait) if db.is_shared else Leases(session_wait=session_wait)


def lease_lost() -> Unavailable:
    """Return the error for a run whose session another process may have claimed."""
    return Unavailable(
        "The server lost its hold on the session, because it or its database did not answer for too long. "
        "Nothing of this turn was stored. Try again.",
        code="session_lost",
    )
