"""Waiting for what a server in another thread or process does, with a bound."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], *, within: float = 5.0) -> float:
    """Wait for a condition and return the seconds that it took; fail where it does not come true in time."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within, f"not within {within} s"
        time.sleep(0.005)
    return time.monotonic() - start
