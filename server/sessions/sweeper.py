"""Delete sessions that are no longer used, one after the other and only while they are idle."""

import asyncio
import logging
import time

from server.errors import AgentError, SessionBusy
from server.http.foreign_errors import as_api_error
from server.sessions.clock import Clock
from server.sessions.index import SessionIndex
from server.sessions.leases import Leases
from server.sessions.naming import Session
from server.sessions.progress import Progress
from server.sessions.records import SessionRecord
from server.settings import ServerSettings

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
# Seconds for which the clock must have been right before a session counts as old.
LONGEST_DOUBT = 600.0
BREATH = 0.1
AT_ONCE, IN_A_ROUND = 100, 1_000
NEVER = 0.0
# What the process holds that deletes; no request can name such a session.
SWEEPING = Session("sweeper\n", "")


async def sweep(index: SessionIndex, progress: Progress, leases: Leases, settings: ServerSettings) -> None:
    """Delete idle sessions for as long as the server runs."""
    lifetimes, clock = [settings.session_ttl_single, settings.session_ttl], Clock()
    pause, doubt = min([LONGEST_PAUSE, *filter(None, lifetimes)]), min([LONGEST_DOUBT, *filter(None, lifetimes)])
    while True:
        await asyncio.sleep(pause)
        is_right = clock.is_right(doubt)
        one_turn, more_turns = (time.time() - lifetime if lifetime else NEVER for lifetime in lifetimes)
        try:
            if not index.is_clean:
                await index.clean_up()
            if is_right:
                async with leases.held(SWEEPING, wait=0):
                    await progress.forget_old()
                    await delete_a_round(index, leases, one_turn, more_turns)
        except SessionBusy:
            continue  # another process is at it
        except Exception as error:
            told = as_api_error(error)
            log.error(
                "Old sessions could not be deleted; the next round tries again. %s",
                told.message,
                exc_info=isinstance(told, AgentError),
            )


async def delete_a_round(index: SessionIndex, leases: Leases, one_turn: float, more_turns: float) -> None:
    """Delete sessions last used before these times; where there are very many, the rest is left to the next round."""
    deleted, at_once = 0, AT_ONCE
    while at_once == AT_ONCE and deleted < IN_A_ROUND:
        at_once = await delete_idle(index, leases, one_turn, more_turns)
        deleted += at_once
        await asyncio.sleep(BREATH)
    if deleted:
        log.info("%d sessions were deleted, which were not used for longer than they are kept.", deleted)


async def delete_idle(index: SessionIndex, leases: Leases, one_turn: float, more_turns: float) -> int:
    """Delete sessions last used before these times, but none that has a run; return how many, at most `AT_ONCE`."""
    deleted = 0
    for session in await index.idle_since(one_turn, more_turns, limit=AT_ONCE):
        try:
            async with leases.held(session, wait=0):
                record = await index.get(session)
                if record and record.updated_at < _limit_of(record, one_turn, more_turns):
                    await index.delete(session)
                    deleted += 1
        except SessionBusy:
            continue
    return deleted


def _limit_of(record: SessionRecord, one_turn: float, more_turns: float) -> float:
    """Return the time before which a session must have been used last; one is empty where its deletion was cut off."""
    if record.is_lasting:
        return more_turns
    if not record.turns:
        return max(one_turn, more_turns)
    return one_turn if record.is_single else more_turns
