"""Ending tasks and waiting until they have ended."""

import asyncio
import logging
from collections.abc import Coroutine
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, TypeVar

import anyio

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Seconds between cancellations of a task that does not end, and until it is left alone.
CANCEL_AGAIN, LEAVE_ALONE = 1.0, 10.0
# Seconds between cancellations of a task that uses the model.
SOON = 0.2


async def end_tasks(tasks: AbstractSet[asyncio.Task[Any]], *, again: float = CANCEL_AGAIN) -> None:
    """Cancel tasks and wait for their end, but not for ever.

    Libraries may lose a cancellation, as `asyncio.wait_for` on Python 3.11 does when a result arrives at the same
    moment. So a task that goes on is cancelled again after `again` seconds.
    """
    now = asyncio.get_running_loop().time
    began, cancelled_at = now(), dict[asyncio.Task[Any], float]()
    while running := [task for task in tasks if not task.done()]:
        if now() - began > LEAVE_ALONE:
            log.error("Tasks do not end: %s.", ", ".join(sorted(task.get_name() for task in running)))
            return
        for task in running:
            if not task.cancelling() or now() - cancelled_at.setdefault(task, began) > again:
                cancelled_at[task] = now()
                task.cancel()
        await asyncio.wait(running, timeout=0.05)


async def to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run work that must not stop halfway, and return its result.

    A cancellation of the caller, or several, takes effect when the work is done. A failure of the work comes first.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
        task.result()
        raise
    return task.result()


async def cancellable(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work; when the caller is cancelled, cancel the work until it ends.

    LangGraph cancels a node once. If that cancellation is lost, the model goes on although nobody reads its answer.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await to_the_end(end_tasks({task}, again=SOON))
        if task.done() and not task.cancelled() and (error := task.exception()):
            log.warning("A step failed while it was stopped: %s", error)
        raise


async def is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set, but no longer than this, and say whether it is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
