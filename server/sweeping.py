"""Deleting sessions that nobody uses any more, one after the other and only while they are idle."""

import asyncio
import logging
import time

from server.errors import SessionBusy
from server.index import SessionIndex
from server.runs import RunOwner
from server.settings import ServerSettings

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
AT_ONCE = 100
NEVER = 0.0


async def sweep(index: SessionIndex, runs: RunOwner, settings: ServerSettings) -> None:
    """Delete idle sessions for as long as the server runs; a failure is logged, and the next round tries again."""
    lifetimes = [settings.session_ttl_single, settings.session_ttl]
    finite = [lifetime for lifetime in lifetimes if lifetime]
    while finite:
        await asyncio.sleep(min(LONGEST_PAUSE, *finite))
        one_turn, more_turns = (time.time() - lifetime if lifetime else NEVER for lifetime in lifetimes)
        try:
            await delete_idle(index, runs, one_turn, more_turns)
        except Exception:
            log.exception("Old sessions could not be deleted; the next round tries again.")


async def delete_idle(index: SessionIndex, runs: RunOwner, one_turn: float, more_turns: float) -> None:
    """Delete the sessions last used before these times, a bounded number of them; one that has a run is left."""
    for session in await index.idle_since(one_turn, more_turns, limit=AT_ONCE):
        try:
            async with runs.exclusively(session.thread_id, wait=0):
                record = await index.get(session)
                if record and record.updated_at < (one_turn if record.turns <= 1 else more_turns):
                    await index.delete(session)
        except SessionBusy:
            continue
