"""Ending tasks and waiting until they have ended."""

import asyncio
from collections.abc import Set as AbstractSet


async def end_tasks(tasks: AbstractSet[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end; anyio swallows a cancellation that meets one of its own."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            if not task.cancelling():
                task.cancel()
        await asyncio.wait(running, timeout=0.1)
