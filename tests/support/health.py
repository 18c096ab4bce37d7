"""Whether a server goes on answering while something else is done to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.agent_server import AgentServer

# Seconds in which /health answers, whatever else is done to the server.
BOUND = 0.25
PAUSE = 0.01


@contextmanager
def responsive(server: AgentServer, within: float = BOUND) -> Iterator[None]:
    """Fail if /health does not answer in time, at any moment until this ends."""
    done, slowest = threading.Event(), 0.0

    def probe() -> None:
        nonlocal slowest
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while True:
                began = time.perf_counter()
                assert client.get("/health").is_success
                slowest = max(slowest, time.perf_counter() - began)
                if done.wait(PAUSE):
                    return

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield
    finally:
        done.set()
        prober.join()
    assert 0 < slowest < within, f"/health took {slowest:.3f} s"
