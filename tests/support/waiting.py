"""Waiting for what a server in another thread or process does, with a bound."""

import asyncio
import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, within: float = 5.0) -> float:
    """Wait for a condition and return the seconds that it took; fail where it does not come true in time."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within, f"not within {within} s"
        time.sleep(0.005)
    return time.monotonic() - start


async def auntil(condition: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait for a condition to hold; it fails the test if it does not in time."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.01)
